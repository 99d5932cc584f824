"""Statements that only some users of the warehouse may run."""

from __future__ import annotations

from typing import LiteralString

CHANGES_DECISIONS: tuple[LiteralString, ...] = (
    "UPDATE {s}.deployments SET decided_by = 'another'",
    "DELETE FROM {s}.deployments",
    "TRUNCATE {s}.deployments",
    "SELECT setval(pg_get_serial_sequence('{s}.deployments', 'deployment_id'), 1)",
    "DROP TABLE {s}.deployments",
    "ALTER TABLE {s}.deployments DISABLE TRIGGER ALL",
    "ALTER TABLE {s}.deployments DISABLE TRIGGER deployments_append_only",
    "ALTER TABLE {s}.deployments RENAME TO deployments_before",
    "ALTER TABLE {s}.deployments OWNER TO CURRENT_USER",
    "DROP TRIGGER deployments_append_only ON {s}.deployments",
    "CREATE RULE nothing AS ON INSERT TO {s}.deployments DO INSTEAD NOTHING",
    "CREATE TRIGGER nothing BEFORE INSERT ON {s}.deployments FOR EACH ROW EXECUTE FUNCTION {s}.refuse_change()",
    "CREATE OR REPLACE FUNCTION {s}.refuse_change() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
    "DROP FUNCTION {s}.refuse_change() CASCADE",
    "DROP SCHEMA {s} CASCADE",
    "SET session_replication_role = 'replica'",
    "UPDATE {s}.schema_migrations SET sha256 = ''",
    "GRANT nightshift_owner TO CURRENT_USER",
    "SET ROLE nightshift_owner",
)
"""Each would change, remove or disable what keeps `deployments` append-only; `{s}` is the schema."""

LEAVES_CODE: tuple[LiteralString, ...] = (
    "CREATE TRIGGER another BEFORE INSERT ON {s}.predictions FOR EACH ROW EXECUTE FUNCTION {s}.refuse_change()",
    "CREATE TRIGGER another BEFORE INSERT ON {s}.{month} FOR EACH ROW EXECUTE FUNCTION {s}.refuse_change()",
    "CREATE RULE another AS ON INSERT TO {s}.predictions DO INSTEAD NOTHING",
    "ALTER TABLE {s}.predictions ALTER predicted_at SET DEFAULT now()",
    "ALTER TABLE {s}.{month} ALTER predicted_at SET DEFAULT now()",
    "ALTER TABLE {s}.predictions DETACH PARTITION {s}.{month}",
    "DROP TABLE {s}.{month}",
    "INSERT INTO {s}.{month} SELECT * FROM {s}.predictions",
    "CREATE TABLE {s}.another (n integer)",
    "CREATE VIEW {s}.another AS SELECT 1",
    "CREATE FUNCTION {s}.another() RETURNS integer LANGUAGE sql AS 'SELECT 1'",
    "CREATE OR REPLACE FUNCTION {s}.create_month(day date) RETURNS void LANGUAGE sql AS ''",
    "ALTER FUNCTION {s}.create_month(date) RESET search_path",
)
"""Each would put code into the schema that other users run, or go around the table `predictions`; `{s}` is the schema,
`{month}` a table of a month."""
