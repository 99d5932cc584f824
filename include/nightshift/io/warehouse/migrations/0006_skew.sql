-- Features used in scoring that differ from those used in training are a drift of their own.

ALTER TABLE {schema}.drift_daily
    DROP CONSTRAINT drift_daily_drift_check,
    ADD CONSTRAINT drift_daily_drift_check CHECK (drift IN ('data', 'prediction', 'label', 'concept', 'skew'));
COMMENT ON COLUMN {schema}.drift_daily.drift IS 'data: feeds and features; prediction: scores; label: share of positive labels; concept: residuals and losses; skew: features of scoring against those of training.';
