-- What a person has to know: one row per partition and cause, written with the decision that it is about.

CREATE TABLE {schema}.alerts (
    alert_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    partition date,
    cause text NOT NULL,
    message text NOT NULL,
    first_at timestamptz NOT NULL DEFAULT now(),
    tried_at timestamptz,
    sent_at timestamptz,
    attempts integer NOT NULL DEFAULT 0,
    accepted_by text[] NOT NULL DEFAULT ARRAY[]::text[],
    error text NOT NULL DEFAULT '',
    UNIQUE NULLS NOT DISTINCT (partition, cause)
);
COMMENT ON TABLE {schema}.alerts IS 'Alerts to people: a partition has one row per cause, however often it is found.';
COMMENT ON COLUMN {schema}.alerts.partition IS 'Partition that the alert is about; null: none, such as a run without a partition key.';
COMMENT ON COLUMN {schema}.alerts.cause IS 'Stable key, such as rules:<names>, overdue, failed:<stage>, <action>:<deployment_id>.';
COMMENT ON COLUMN {schema}.alerts.first_at IS 'When it was recorded first (UTC).';
COMMENT ON COLUMN {schema}.alerts.tried_at IS 'Last attempt to send it (UTC); null before the first.';
COMMENT ON COLUMN {schema}.alerts.sent_at IS 'When the last receiver accepted it (UTC); null: still to be sent.';
COMMENT ON COLUMN {schema}.alerts.accepted_by IS 'Receivers that accepted it, by a hash of their address.';
COMMENT ON COLUMN {schema}.alerts.error IS 'Kinds of the receivers that did not accept the last attempt.';
CREATE INDEX ON {schema}.alerts (first_at) WHERE sent_at IS NULL;
