"""Write .env with generated secrets for docker-compose.yaml. Needs Python only; never overwrites."""

import base64
import secrets
import sys
from pathlib import Path

PATH = Path(__file__).resolve().parents[2] / ".env"
NAMES = (
    "POSTGRES_PASSWORD",
    "WAREHOUSE_PASSWORD",
    "PAGES_PASSWORD",
    "AIRFLOW_DB_PASSWORD",
    "MLFLOW_DB_PASSWORD",
    "REDIS_PASSWORD",
    "MINIO_PASSWORD",
    "AIRFLOW_SECRET_KEY",
    "AIRFLOW_JWT_SECRET",
    "AIRFLOW_ADMIN_PASSWORD",
)

if PATH.exists():
    sys.exit(f"{PATH} is there already and was left alone; remove it to have new secrets generated.")
# Hexadecimal: a secret that begins with "-" would be read as an option.
values = {name: secrets.token_hex(32) for name in NAMES}
values["AIRFLOW_FERNET_KEY"] = base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()
PATH.touch(mode=0o600)
PATH.write_text("".join(f"{name}={value}\n" for name, value in sorted(values.items())), encoding="utf-8")
sys.stdout.write(f"Wrote {PATH}. Log in to Airflow as admin with AIRFLOW_ADMIN_PASSWORD from it.\n")
