-- Predictions are partitioned by month instead of day. The key begins with the day, which is what is replaced.

DO $$
#variable_conflict use_column
DECLARE
    parent CONSTANT regclass := format('%I.predictions', {schema_name})::regclass;
    owner CONSTANT text := (SELECT pg_get_userbyid(relowner) FROM pg_class WHERE oid = parent);
    months CONSTANT date[] := ARRAY(
        SELECT DISTINCT date_trunc('month', {prediction_date})::date FROM {schema}.predictions);
    month date;
    name text;
BEGIN
    -- All rows are read through the parent: its partitions may belong to the users who published them.
    FOREACH month IN ARRAY months LOOP
        name := format('%I.%I', {schema_name}, 'predictions_' || to_char(month, 'YYYYMM'));
        EXECUTE format('CREATE TABLE %s (LIKE %s INCLUDING ALL EXCLUDING INDEXES)', name, parent);
        EXECUTE format('ALTER TABLE %s OWNER TO %I', name, owner);
        EXECUTE format(
            'INSERT INTO %s SELECT * FROM %s WHERE %I >= %L AND %I < %L ORDER BY %s',
            name, parent, {prediction_date_name}, month, {prediction_date_name}, (month + interval '1 month')::date, {key_by_day});
        EXECUTE format('ALTER TABLE %s ADD PRIMARY KEY (%s)', name, {key_by_day});
    END LOOP;
    FOR name IN SELECT inhrelid::regclass FROM pg_inherits WHERE inhparent = parent LOOP
        EXECUTE format('DROP TABLE %s', name);
    END LOOP;
    EXECUTE format('ALTER TABLE %s DROP CONSTRAINT predictions_pkey, ADD PRIMARY KEY (%s)', parent, {key_by_day});
    FOREACH month IN ARRAY months LOOP
        EXECUTE format(
            'ALTER TABLE %s ATTACH PARTITION %I.%I FOR VALUES FROM (%L) TO (%L)',
            parent, {schema_name}, 'predictions_' || to_char(month, 'YYYYMM'), month, (month + interval '1 month')::date);
    END LOOP;
END
$$;
ALTER TABLE {schema}.predictions ALTER predicted_at SET DEFAULT now();
