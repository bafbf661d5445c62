"""The doctor's findings as metrics, so that a nightly failure raises an alarm."""

import time

from prometheus_client import CollectorRegistry, Gauge

from app.doctor.check import Report


def report_metrics(report: Report) -> CollectorRegistry:
    """Give each finding as 0 or 1 by code and status; texts stay out, since they name addresses."""
    registry = CollectorRegistry()
    findings = Gauge("loosh_doctor_finding", "1: this check ended so", ["code", "section", "status"], registry=registry)
    for finding in report.findings:
        findings.labels(finding.code, finding.section, finding.status).set(1)
    at = Gauge("loosh_doctor_run_timestamp_seconds", "When the doctor looked", registry=registry)
    at.set(time.time())
    return registry
