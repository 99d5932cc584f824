-- Run once by the server that initialises the volume, with the passwords of .env in its environment. Each service has a
-- user of its own, which can enter its own database only; see docs/security.md.
\getenv airflow_password AIRFLOW_DB_PASSWORD
\getenv mlflow_password MLFLOW_DB_PASSWORD
\getenv pipeline_password WAREHOUSE_PASSWORD
\getenv pages_password PAGES_PASSWORD

CREATE ROLE airflow LOGIN PASSWORD :'airflow_password';
CREATE ROLE mlflow LOGIN PASSWORD :'mlflow_password';
CREATE DATABASE airflow OWNER airflow;
CREATE DATABASE mlflow OWNER mlflow;

-- The migrations, run by the service migrate, give them their privileges.
CREATE ROLE nightshift_owner NOLOGIN;
CREATE ROLE nightshift_pipeline NOLOGIN;
CREATE ROLE nightshift_reader NOLOGIN;
CREATE ROLE pipeline LOGIN PASSWORD :'pipeline_password' IN ROLE nightshift_pipeline;
CREATE ROLE pages LOGIN PASSWORD :'pages_password' IN ROLE pg_read_all_data;

REVOKE ALL ON DATABASE airflow, mlflow, warehouse FROM PUBLIC;
GRANT CONNECT ON DATABASE warehouse TO nightshift_reader, pages;
-- CREATE: schemas of Feast and of the search of models.
GRANT CONNECT, TEMPORARY, CREATE ON DATABASE warehouse TO nightshift_pipeline;
