-- The owner of `predictions` creates the table of a month, whoever publishes: PostgreSQL lets no other user attach it.
-- The names are looked up in pg_catalog alone, so that who calls it cannot replace what it calls.

CREATE FUNCTION {schema}.create_month(day date) RETURNS void LANGUAGE plpgsql STRICT SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    first CONSTANT date := date_trunc('month', day)::date;
    parent CONSTANT text := format('%I.predictions', {schema_name});
    month CONSTANT text := format('%I.%I', {schema_name}, 'predictions_' || to_char(first, 'YYYYMM'));
BEGIN
    IF to_regclass(month) IS NULL THEN
        -- Unlike CREATE TABLE ... PARTITION OF, attaching a table does not block readers.
        EXECUTE format('CREATE TABLE %s (LIKE %s INCLUDING ALL)', month, parent);
        EXECUTE format('ALTER TABLE %s ATTACH PARTITION %s FOR VALUES FROM (%L) TO (%L)',
            parent, month, first, (first + interval '1 month')::date);
    END IF;
END
$$;
REVOKE ALL ON FUNCTION {schema}.create_month(date) FROM PUBLIC;
COMMENT ON FUNCTION {schema}.create_month(date) IS 'Creates the table of the predictions of a day''s month, unless it is there.';
