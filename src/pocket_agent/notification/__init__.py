"""Notifies users who are not watching, through the services that apprise knows."""

from pocket_agent.notification.outbox import Notification, Notifier, Route, find_routes, trial

__all__ = ["Notification", "Notifier", "Route", "find_routes", "trial"]
