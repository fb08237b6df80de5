"""What somebody should know of, and when."""

from pocket_agent.config.settings import Settings
from pocket_agent.monitoring.alert.availability import availability_alerts
from pocket_agent.monitoring.alert.execution import execution_alerts
from pocket_agent.monitoring.alert.fault import fault_alerts
from pocket_agent.monitoring.alert.pipeline import pipeline_alerts
from pocket_agent.monitoring.alert.saturation import saturation_alerts
from pocket_agent.monitoring.rule import Alert


def find_alerts(settings: Settings) -> tuple[Alert, ...]:
    """Every alert but those of the objectives (`slo`), with the thresholds of the settings."""
    return (
        *availability_alerts(settings),
        *fault_alerts(settings),
        *execution_alerts(settings),
        *saturation_alerts(settings),
        *pipeline_alerts(),
    )
