"""Write .env with generated secrets for docker-compose.yaml, or add those that it lacks. Needs Python only.

What is in the file already is never changed.
"""

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
    "MINIO_PIPELINE_PASSWORD",
    "MINIO_PAGES_PASSWORD",
    "MINIO_MLFLOW_PASSWORD",
    "MINIO_LANDING_PASSWORD",
    "AIRFLOW_SECRET_KEY",
    "AIRFLOW_JWT_SECRET",
    "AIRFLOW_ADMIN_PASSWORD",
)

# Hexadecimal: a secret that begins with "-" would be read as an option.
values = {name: secrets.token_hex(32) for name in NAMES}
values["AIRFLOW_FERNET_KEY"] = base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()
is_new = not PATH.exists()
PATH.touch(mode=0o600)
# A file that was there already may be open to others.
PATH.chmod(0o600)
text = PATH.read_text(encoding="utf-8")
present = {name.strip() for name, _, value in (line.partition("=") for line in text.splitlines()) if value.strip()}
missing = sorted(values.keys() - present)
with PATH.open("a", encoding="utf-8") as file:
    file.write("\n" if text and not text.endswith("\n") else "")
    file.writelines(f"{name}={values[name]}\n" for name in missing)
if is_new:
    sys.stdout.write(f"Wrote {PATH}. Log in to Airflow as admin with AIRFLOW_ADMIN_PASSWORD from it.\n")
else:
    sys.stdout.write(f"{PATH} was there already; added to it: {', '.join(missing) or 'nothing'}.\n")
