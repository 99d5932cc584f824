"""A made-up year of nights of several use cases, for benchmarks/app.py: rows in a warehouse, statuses in a store.

The numbers are waves and noise; their amounts are those of flight_delay.
"""

from __future__ import annotations

import json
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from psycopg import sql

from nightshift.artifact import Decision, canonical_json
from nightshift.declare.use_case import UseCase
from nightshift.io.artifact_store import ArtifactStore
from nightshift.io.object_store import in_parallel
from nightshift.io.warehouse import schema
from nightshift.settings import Settings

DAYS = 365
DETAILED_DAYS = 60
SLICES = {
    "origin": ("EWR", "JFK", "LGA"),
    "carrier": ("9E", "AA", "B6", "DL", "EV", "F9", "FL", "HA", "MQ", "UA", "US", "VX", "WN", "YV"),
    "departure_hour_band": ("early", "morning", "noon", "afternoon", "evening", "late"),
}
FEEDS = {"schedule": 900, "flights": 880, "weather": 72, "planes": 3300, "airlines": 16}
STEPS = ("publish_features", "publish_predictions")


def declare(root: Path, names: list[str]) -> None:
    """Use cases like flight_delay under other names, below `root`."""
    for name in names:
        folder = root / "include" / name
        folder.mkdir(parents=True)
        title = name.replace("_", " ").capitalize()
        (folder / "__init__.py").write_text('"""A use case of a benchmark."""\n')
        (folder / "use_case.py").write_text(
            "import dataclasses\n\nfrom flight_delay.use_case import USE_CASE as BASE\n\n"
            f"USE_CASE = dataclasses.replace(BASE, name={name!r}, title={title!r}, last_partition=None)\n"
        )


def fill_warehouse(settings: Settings, use_case: UseCase, last: date, *, rows_a_day: int) -> None:
    """A year of rows up to the partition `last`; `rows_a_day` predictions, all but the newest day's with outcomes."""
    schema.migrate(settings, use_case)
    first = last - timedelta(days=DAYS - 1)
    slices = [[name, value] for name, values in SLICES.items() for value in values]
    values = {
        "s": sql.Identifier(use_case.name),
        "first": sql.Literal(first),
        "last": sql.Literal(last),
        "champion": sql.Literal(use_case.champion.spec_id),
        "fallback": sql.Literal(use_case.fallback.spec_id),
        "spec": sql.Literal(use_case.champion.model_dump_json()),
        "columns": sql.Literal(json.dumps(_columns(use_case))),
        "slices": sql.Literal(json.dumps(slices)),
        "uri": sql.Literal(f"s3://{settings.bucket}/{use_case.name}/predict/score/x/"),
    }
    statements = [sql.SQL(text).format(**values) for text in (PUBLICATIONS, PERFORMANCE, DRIFT, DEPLOYMENTS, GATES)]
    with schema.connect(settings) as connection:
        for statement in [*statements, *_predictions(use_case, first, last, rows_a_day)]:
            connection.execute(statement)
    with schema.connect(settings) as connection:
        connection.autocommit = True
        connection.execute("ANALYZE")


def _columns(use_case: UseCase) -> list[tuple[str, str, str, str, int]]:
    """What is compared: drift, source, column, statistic, days."""
    statistics = (("level", 28), ("spread", 7), ("shape", 7), ("nulls", 1), ("unseen", 1))
    columns = [(feed.name, column.name) for feed in use_case.feeds for column in feed.curated]
    columns += [("features", name) for name in (*use_case.features.numeric, *use_case.features.categorical)]
    compared = [("data", *name, *statistics[n % len(statistics)]) for n, name in enumerate(columns)]
    compared += [("data", feed.name, "", "rows", 1) for feed in use_case.feeds]
    compared += [
        ("prediction", "scores", use_case.score, "level", 7),
        ("label", "outcomes", use_case.label, "rate", 28),
    ]
    slices = ["", *(f"{name}={value}" for name, values in SLICES.items() for value in values)]
    return compared + [("concept", "outcomes", name, ("residual", "loss")[n % 2], 28) for n, name in enumerate(slices)]


def _predictions(use_case: UseCase, first: date, last: date, rows_a_day: int) -> list[sql.Composed]:
    day = use_case.prediction_date
    texts = {"string": "'k' || i", "int64": "i", "float64": "i / 10.0", "bool": "true", "timestamp": "now()"}

    def value(column: Any) -> sql.Composable:
        return sql.SQL("d::date" if column.name == day else texts.get(column.type, "d::date"))

    columns = (*use_case.prediction_key, *use_case.prediction_extra)
    names = {
        "all": sql.Identifier(use_case.name, "predictions_all"),
        "predictions": sql.Identifier(use_case.name, "predictions"),
        "outcomes": sql.Identifier(use_case.name, "outcomes"),
        "columns": sql.SQL(", ").join(sql.Identifier(column.name) for column in columns),
        "values": sql.SQL(", ").join(map(value, columns)),
        "key": sql.SQL(", ").join(sql.Identifier(name) for name in use_case.key_columns),
        "score": sql.Identifier(use_case.score),
        "label": sql.Identifier(use_case.label),
        "day": sql.Identifier(day),
        "first": sql.Literal(first + timedelta(days=1)),
        "last": sql.Literal(last + timedelta(days=1)),
        "rows": sql.Literal(rows_a_day),
    }
    texts_of_all = (
        "CREATE TABLE {all} PARTITION OF {predictions} DEFAULT",
        "INSERT INTO {predictions} ({columns}, {score}, decision, model_version, publish_id, predicted_at) "
        "SELECT {values}, 0.02 + 0.6 * random() * random(), false, (d::date - 2) || '-abcdef01', 'p', now() "
        "FROM generate_series({first}::date, {last}::date, '1 day') AS d, generate_series(1, {rows}) AS i",
        "INSERT INTO {outcomes} ({key}, {label}, partition) SELECT {key}, (random() < {score})::int, {day} "
        "FROM {predictions} WHERE {day} < {last}",
    )
    return [sql.SQL(text).format(**names) for text in texts_of_all]


def fill_store(store: ArtifactStore, use_case: UseCase, last: date, *, detailed: bool) -> None:
    """A status for every partition of the year; with `detailed`, artifacts of ingest for the last 60 partitions."""
    first = last - timedelta(days=DAYS - 1)
    partitions = [first + timedelta(days=n) for n in range(DAYS)]
    published = Decision(status="published")

    def write(partition: date) -> None:
        for step in STEPS:
            store.decide(use_case.name, step, partition, published)
        if detailed and (last - partition).days < DETAILED_DAYS:
            _ingest(store, use_case, partition)
        else:
            store.decide(use_case.name, "publish", partition, published)

    in_parallel(write, partitions)


def _ingest(store: ArtifactStore, use_case: UseCase, partition: date) -> None:
    name, wave = use_case.name, partition.toordinal() % 7
    rows = {feed: count + wave for feed, count in FEEDS.items()}
    mean = {feed: {"value": 10.0 + wave} for feed in FEEDS}
    profile = {feed: {"rows": n, "null_share": {"value": wave / 100}, "mean": mean[feed]} for feed, n in rows.items()}
    findings = {feed: {"critical": [], "quarantine": {}, "warning": {"late": wave}} for feed in FEEDS}
    made = {"use_case": name, "partition": partition, "files": {"x.json": canonical_json({"day": str(partition)})}}
    landed = store.commit(
        step="land", kind="landed", metrics={feed: {"delivered": n} for feed, n in rows.items()}, **made
    )
    inputs = {"landed": [landed]}
    profiled = store.commit(step="profile", kind="profile", inputs=inputs, metrics=profile, **made)
    validated = store.commit(step="validate", kind="validation", inputs=inputs, metrics=findings, **made)
    metrics = {"rows": rows, "quarantined_rows": wave, "quarantined": {"out of range": wave}, "warnings": {"late": 3}}
    inputs |= {"profiled": [profiled], "validated": [validated]}
    store.commit(step="publish", kind="curated", inputs=inputs, metrics=metrics, rows=sum(rows.values()), **made)


PUBLICATIONS = """
INSERT INTO {s}.publications (publish_id, partition, prediction_date, model_version, role, model_uri, model_sha256,
    scores_uri, scores_sha256, rows, dag_id, run_id, published_at, spec_id, calibration_uri, calibration_sha256)
SELECT md5(d::text), d::date, d::date + 1, (d::date - 1) || '-' || left(md5(d::text), 8), 'champion', 'm', 'm',
    {uri}, 'x', 920, 'flight_delay.predict', 'scheduled__' || d::date,
    now() - ({last}::date - d::date) * interval '1 day',
    {champion}, 'c', 'c'
FROM generate_series({first}::date, {last}::date, '1 day') AS d
"""

PERFORMANCE = """
INSERT INTO {s}.performance_daily (partition, prediction_date, role, spec_id, model_version, slice_column, slice_value,
    known_on, rows, predictions, auc, log_loss, expected_log_loss, brier, mean_score, label_rate)
SELECT d::date, d::date + 1, role, CASE role WHEN 'fallback' THEN {fallback} ELSE {champion} END,
    (d::date - 1) || '-' || left(md5(d::text), 8), slice.column_name, slice.value, d::date + 1, n, n, .7,
    level + worse + .02 * (random() - .5), level + .09 * (random() - .5), .17,
    .22 + .05 * wave, .22 + .05 * wave + .04 * (random() - .5)
FROM generate_series({first}::date, {last}::date - 1, '1 day') AS d
CROSS JOIN LATERAL (SELECT sin(extract(doy FROM d) / 25.0)::float8 AS wave) AS w
CROSS JOIN LATERAL (SELECT .5 + .07 * wave + .06 * (random() - .5) AS level) AS l
CROSS JOIN (VALUES ('published', 0.0), ('champion', 0.0), ('former', .006), ('fallback', .055)) AS r (role, worse)
CROSS JOIN (
    SELECT '' AS column_name, '' AS value, 920 AS n
    UNION ALL SELECT one ->> 0, one ->> 1, 40 + length(one ->> 1) * 17 FROM json_array_elements({slices}::json) AS one
) AS slice
"""

DRIFT = """
INSERT INTO {s}.drift_daily (partition, drift, source, column_name, statistic, days, value, low, high, excess, drifted,
    since, comparison_uri)
SELECT d::date, c.one ->> 0, c.one ->> 1, c.one ->> 2, c.one ->> 3, (c.one ->> 4)::int,
    middle + half * CASE WHEN excess > 0 THEN .9 + excess ELSE excess - .9 END, middle - half, middle + half,
    excess, abs(excess) > 1, CASE WHEN abs(excess) > 1 THEN d::date - 5 END, 's3://x/'
FROM generate_series({first}::date, {last}::date, '1 day') AS d
CROSS JOIN json_array_elements({columns}::json) WITH ORDINALITY AS c (one, n)
CROSS JOIN LATERAL (
    SELECT CASE c.one ->> 0 WHEN 'concept' THEN 0 ELSE .5 END AS middle,
        CASE c.one ->> 0 WHEN 'concept' THEN 8 ELSE .1 END AS half,
        ({last}::date - d::date + c.n * 37) % 211 AS days_in
) AS place
CROSS JOIN LATERAL (
    SELECT (power(cos(days_in * pi() / 211), 60) * (1.6 + c.n % 5 / 4.0) * CASE WHEN c.n % 3 = 0 THEN -1 ELSE 1 END
        + .35 * (random() - .5) + .25 * sin(extract(doy FROM d) / 9.0 + c.n)) AS excess
) AS e
"""

DEPLOYMENTS = """
INSERT INTO {s}.deployments (partition, action, role, model_version, model, reason, decided_by, spec_id, spec)
SELECT d::date, 'registered', role, d::date || '-' || left(md5(d::text || role), 8),
    jsonb_build_object('uri', 's3://x/', 'sha256', md5(d::text), 'kind', 'version', 'rows', 1, 'schema_version', 1),
    jsonb_build_object('gates', 16), 'register', CASE role WHEN 'fallback' THEN {fallback} ELSE {champion} END,
    CASE WHEN d = {first}::date AND role = 'champion' THEN {spec}::jsonb END
FROM generate_series({first}::date, {last}::date, '1 day') AS d
CROSS JOIN (VALUES ('champion'), ('fallback')) AS r (role)
ORDER BY 1;
INSERT INTO {s}.deployments (partition, action, role, model_version, reason, decided_by, spec_id)
VALUES ({first}, 'promoted', 'champion', '', '{{}}', 'register', {champion})
"""

GATES = """
INSERT INTO {s}.gate_results (partition, model_version, candidate, gate, verdict, observed, bound, reason)
SELECT d::date, d::date || '-' || left(md5(d::text || role), 8), role, 'gate_' || g,
    CASE WHEN g = 7 THEN 'not applicable' ELSE 'pass' END, .1 * g, 2, 'a reason in a sentence of some length'
FROM generate_series({first}::date, {last}::date, '1 day') AS d
CROSS JOIN (VALUES ('champion'), ('fallback')) AS r (role) CROSS JOIN generate_series(1, 16) AS g
"""
