"""Prepares a dataset for training: reads any source, cleans and checks it, splits it and writes it."""

from __future__ import annotations

import tempfile
from dataclasses import asdict, replace
from pathlib import Path

import datasets
import numpy as np

from miniml.data import duplicates, label_names, label_scheme, leaks, reading, splitting, tables, writing
from miniml.data.findings import CHECKS, Findings
from miniml.data.prepared import SPLITS, SUMMARY_NAME, DatasetSummary
from miniml.data.report_request import ReportRequest
from miniml.data.texts import CLEANING
from miniml.files.folders import disk_errors_explained, require_replaceable, written_whole
from miniml.progress import logger
from miniml.settings.data import DataSettings
from miniml.sources.address import locate
from miniml.sources.pins import UNPINNED, Pins


def prepare(
    settings: DataSettings, dataset_dir: Path, report: ReportRequest | None = None, pins: Pins = UNPINNED
) -> DatasetSummary:
    """Reads, checks and splits a source, and writes the dataset and its report.

    The same source, settings and seed give the same files, byte for byte. Texts stay on disk, so that memory grows by
    only some 60 bytes per row, and by 130 more during the search for near-duplicates.

    Args:
        settings: The source, its columns, and how to check and split it.
        dataset_dir: The folder to write; an earlier output is replaced.
        report: The report to write; None writes none.
        pins: At which commit or digest the source and the report's model are read.

    Returns:
        The summary of the dataset, which the folder holds as well.

    Raises:
        InputError: The source or its rows cannot be used, or the folder holds something else; nothing is written.
        HubError: The hub does not give the source.
        StoreError: The S3 store does not give the source.
        StorageError: The folder cannot be written.
    """
    require_replaceable(dataset_dir, (SUMMARY_NAME,))
    findings = Findings()
    with tempfile.TemporaryDirectory(prefix="miniml-") as name, disk_errors_explained(Path(name)):
        scratch = Path(name)
        logger.info(f"reading {settings.dataset_id}")
        source_tables, source = tables.read(pins.of(settings.dataset_id), scratch)
        pool = reading.read_rows(source_tables, settings, findings, scratch)
        pool = label_names.with_one_spelling(pool, findings)
        kept = np.ones(len(pool.facts), bool)
        duplicates.drop_duplicates(pool, kept, settings, findings)
        scheme = label_scheme.scheme_of(pool.task)
        classes = scheme.find_labels(pool, kept, settings, findings)
        assignment = splitting.split_rows(pool, kept, classes, settings, findings)
        leaks.drop_leaks(pool, assignment, classes, settings, findings)
        with written_whole(dataset_dir, (SUMMARY_NAME,)) as folder:
            written = writing.write_splits(pool, assignment, classes, settings.seed, scratch, folder)
            summary = DatasetSummary(
                source=source,
                fingerprint=written.fingerprint,
                labels=classes.names,
                task=pool.task,
                numbers=scheme.numbers(pool.facts.label[assignment >= 0]),
                rows=written.rows,
                rows_per_class=written.rows_per_class,
                settings=asdict(settings),
                hub_id=_hub_id(settings.dataset_id),
                rows_read=pool.rows_read,
                not_drawn=pool.rows_read - sum(written.rows.values()) - findings.dropped.total(),
                found=dict(findings.found),
                dropped=dict(findings.dropped),
                cleaned=dict(findings.cleaned),
            )
            if report:
                from miniml.data.tokens import measure  # Only here: most tests ask for no report.

                lengths = measure(_splits(folder), pins.of(report.model_id), report.max_length)
                summary = replace(summary, lengths=lengths.figures(), length_unit=lengths.unit)
            summary.save(folder)
    _log_summary(summary)
    if report:
        from miniml.data.report import write_report  # Only here: it brings in matplotlib.

        write_report(summary, findings, lengths, report, pool.facts.label[assignment >= 0])
    return summary


def _hub_id(dataset_id: str) -> str:
    return locate("dataset_id", dataset_id).hub_name


def _splits(folder: Path) -> dict[str, datasets.Dataset]:
    return {split: datasets.load_from_disk(str(folder / split)) for split in SPLITS}


def _log_summary(summary: DatasetSummary) -> None:
    rows = " + ".join(f"{count:,} {split}" for split, count in summary.rows.items())
    logger.info(f"{rows} rows · {label_scheme.scheme_of(summary.task).summary(summary)}")
    if summary.not_drawn:
        taken, usable = sum(summary.rows.values()), sum(summary.rows.values()) + summary.not_drawn
        limit = f"max_rows={summary.settings['max_rows']}"
        logger.info(f"{taken:,} of {usable:,} rows were drawn ({limit}); max_rows=0 takes all")
    if summary.dropped:
        logger.info("left out: " + _counts_by_check(summary.dropped))
    changed = [
        f"{CLEANING[check][0]} {count:,}" for check, count in summary.cleaned.items() if check in CLEANING
    ]
    if changed:
        logger.info("texts changed: " + ", ".join(changed))
    remaining = {check: left for check in CHECKS if (left := summary.remaining(check))}
    if remaining:
        logger.info("found and kept: " + _counts_by_check(remaining))


def _counts_by_check(counts: dict[str, int]) -> str:
    return "; ".join(f"{counts[check]:,} × {words}" for check, words in CHECKS.items() if check in counts)
