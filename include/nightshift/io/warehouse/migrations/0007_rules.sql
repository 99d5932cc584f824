-- Which monitoring rules fired, on what, and what followed.

CREATE TABLE {schema}.rules_daily (
    partition date NOT NULL,
    rule text NOT NULL,
    action text NOT NULL CHECK (action IN ('alert', 'search', 'hold', 'fallback')),
    fired boolean NOT NULL,
    matched integer NOT NULL,
    at_least integer NOT NULL,
    of_last integer NOT NULL,
    since date,
    began boolean NOT NULL,
    acted boolean NOT NULL,
    effect text NOT NULL,
    evidence jsonb NOT NULL,
    PRIMARY KEY (partition, rule)
);
COMMENT ON TABLE {schema}.rules_daily IS 'Every monitoring rule of the use case, evaluated for each checked partition.';
COMMENT ON COLUMN {schema}.rules_daily.partition IS {partition_comment};
COMMENT ON COLUMN {schema}.rules_daily.action IS 'What the rule declares to follow.';
COMMENT ON COLUMN {schema}.rules_daily.fired IS 'Whether matched is at least at_least.';
COMMENT ON COLUMN {schema}.rules_daily.matched IS 'Partitions, of the last of_last up to this one, on which all signals of the rule hold.';
COMMENT ON COLUMN {schema}.rules_daily.since IS 'First of the partitions one after another in which it fired; null unless fired.';
COMMENT ON COLUMN {schema}.rules_daily.began IS 'It fires after a partition in which it did not, or drift that it matches begins: people are alerted.';
COMMENT ON COLUMN {schema}.rules_daily.acted IS 'Whether the action was carried out in this partition.';
COMMENT ON COLUMN {schema}.rules_daily.effect IS 'What followed, in words; empty unless fired.';
COMMENT ON COLUMN {schema}.rules_daily.evidence IS 'The matched days, each with what its signals found.';

COMMENT ON COLUMN {schema}.deployments.decided_by IS 'Step that decided, hand:<user>, or rule:<monitoring rule>. Of the decisions of one step or rule for one partition the last row counts.';
