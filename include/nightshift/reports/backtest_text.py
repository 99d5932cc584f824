"""A backtest as lines for a terminal."""

from __future__ import annotations

from collections.abc import Iterator

from nightshift.documents.backtest import BacktestResult, BacktestSeries, PairedDifference


def lines(result: BacktestResult) -> Iterator[str]:
    """One line per series, then one per month: log loss, and in brackets the calibration gap."""
    width = max(len(_name(one)) for one in result.series)
    yield (
        f"{result.first} to {result.last}, refitted every {result.refit_every}, labels known by {result.partition}; "
        f"intervals at {result.confidence:.0%} (blocks of {result.block_days} days)"
    )
    heads = f"{'partitions':>10} {'rows':>8} {'log loss':>8} {'AUC':>6} {'worst gap':>9}"
    yield f"{'spec':<{width}} {heads}  log loss minus champion's"
    for one in result.series:
        auc = "-" if one.auc is None else f"{one.auc:.4f}"
        yield (
            f"{_name(one):<{width}} {one.partitions:>10} {one.rows:>8} {one.log_loss:>8.4f} {auc:>6} "
            f"{one.worst_calibration_gap:>+9.4f}  {_interval(one.differences.get('champion'))}"
        )
    yield ""
    yield "log loss by month of the predictions (mean score minus share of positives)"
    column = max(16, *(len(f"{one.spec.name} {one.baseline}".strip()) for one in result.series))
    yield "month    " + " ".join(f"{f'{one.spec.name} {one.baseline}'.strip():>{column}}" for one in result.series)
    for position, month in enumerate(result.series[0].months):
        cells = [one.months[position] for one in result.series]
        yield f"{month.month}  " + " ".join(
            f"{f'{cell.log_loss:.4f} ({cell.calibration_gap:+.3f})':>{column}}" for cell in cells
        )


def _name(one: BacktestSeries) -> str:
    return f"{one.spec_id} {one.baseline or one.role}"


def _interval(difference: PairedDifference | None) -> str:
    if difference is None:
        return ""
    if difference.low is None or difference.high is None:
        return f"{difference.mean:+.4f}"
    return f"{difference.mean:+.4f} [{difference.low:+.4f}, {difference.high:+.4f}]"
