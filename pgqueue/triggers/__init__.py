"""Triggers on users' tables that make jobs, events and notifications of what changes there."""

from pgqueue.triggers.app_triggers import AppTriggers, WantedTrigger, wish
from pgqueue.triggers.checking import TriggerFault
from pgqueue.triggers.declared import DeclaredTrigger
from pgqueue.triggers.tasks import with_task

__all__ = ["AppTriggers", "DeclaredTrigger", "TriggerFault", "WantedTrigger", "wish", "with_task"]
