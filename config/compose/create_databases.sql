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
CREATE ROLE pages LOGIN PASSWORD :'pages_password';

REVOKE ALL ON DATABASE airflow, mlflow, warehouse, postgres, template1 FROM PUBLIC;
GRANT CONNECT ON DATABASE warehouse TO nightshift_reader, pages;
-- CREATE: schemas of Feast and of the search of models.
GRANT CONNECT, TEMPORARY, CREATE ON DATABASE warehouse TO nightshift_pipeline;

-- The pages read all tables: of the migrations, of months, and those that the pipeline makes. As a member of
-- pg_read_all_data they would also read the stored passwords of all users.
ALTER DEFAULT PRIVILEGES FOR ROLE nightshift, pipeline GRANT USAGE ON SCHEMAS TO pages;
ALTER DEFAULT PRIVILEGES FOR ROLE nightshift, nightshift_owner, pipeline GRANT SELECT ON TABLES TO pages;
-- The default begins with a schema of the user's name. The pipeline could make one for the superuser, and functions in it
-- that it calls in place of PostgreSQL's.
ALTER DATABASE warehouse SET search_path = public;
