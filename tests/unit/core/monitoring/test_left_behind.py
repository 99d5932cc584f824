"""What a night lists for a person, as problems and alerts."""

from datetime import date, timedelta

from nightshift.core.monitoring.left_behind import FILES_NAMED, left_behind
from nightshift.documents.ingest import CatchUp

D = date(2020, 3, 20)
NEXT = [D + timedelta(days=n) for n in range(1, 4)]


def test_nothing_listed():
    assert left_behind("parcels", CatchUp(run_again={D: "ingest did not decide it"})) == []


def test_changed_delivery_names_some_of_its_files():
    files = tuple(f"f{n}" for n in range(FILES_NAMED + 2))
    (one,) = left_behind("parcels", CatchUp(changed={D: files}, changed_to={D: "0123456789abcdef"}))
    what = "the delivery of 2020-03-20 changed after it was landed (f0, f1, f2, f3, f4 and 2 more)"
    assert (one.problem.what, one.problem.page) == (what, "night/2020-03-20")
    assert (one.alert.partition, one.alert.cause) == (D, "changed_delivery:0123456789ab")
    assert one.alert.message == f"{what}: backfill parcels.ingest for it, with all runs, to take it as it is now"
    (few,) = left_behind("parcels", CatchUp(changed={D: ("f0",)}))
    assert "(f0)" in few.problem.what


def test_outdated_features_are_one_for_each_partition_that_they_lack():
    outdated = {NEXT[0]: (D,), NEXT[1]: (D, NEXT[0]), NEXT[2]: (D,)}
    newest, oldest = left_behind("parcels", CatchUp(outdated=outdated))
    assert [one.partition for one in (newest, oldest)] == [NEXT[0], D]
    assert oldest.problem.what == (
        "the features of 3 partitions from 2020-03-21 to 2020-03-23 were built before 2020-03-20 was published as it "
        "is now"
    )
    assert "from 2020-03-21 to 2020-03-23, with all runs" in oldest.problem.advice
    assert newest.problem.what.startswith("the features of 2020-03-22 were built before 2020-03-21")
    assert {one.alert.cause for one in (newest, oldest)} == {"outdated_features"}
