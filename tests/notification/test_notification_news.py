"""The words of a notification."""

import pytest

from pocket_agent.notification.outbox import (
    FinishedExecution,
    Notification,
    PendingApproval,
    ProjectDigest,
    compose,
    trial,
)

BASE = "https://agent.example:8443"


@pytest.mark.parametrize(
    ("news", "title", "body"),
    [
        (
            [ProjectDigest("1", "shop", (PendingApproval("Bash"),))],
            "Approval wanted: shop",
            f"Bash waits for your answer.\n{BASE}/p/1",
        ),
        (
            [ProjectDigest("1", "shop", (PendingApproval("Bash"), PendingApproval("Edit"), PendingApproval("Bash")))],
            "3 approvals wait: shop",
            f"Bash, Edit wait for your answer.\n{BASE}/p/1",
        ),
        (
            [ProjectDigest("1", "shop", executions=(FinishedExecution(75.4),), finished=1)],
            "Finished: shop",
            f"Finished after 1 min 15 s.\n{BASE}/p/1",
        ),
        (
            [ProjectDigest("1", "shop", executions=(FinishedExecution(3700.0, "EXECUTION_TIMEOUT"),), failed=1)],
            "Failed: shop",
            f"Failed after 1 h 1 min (EXECUTION_TIMEOUT).\n{BASE}/p/1",
        ),
        (
            [ProjectDigest("1", "shop", executions=(FinishedExecution(65.0, paused="a limit is reached"),), failed=1)],
            "Paused: shop",
            f"Paused after 1 min 5 s: a limit is reached.\n{BASE}/p/1",
        ),
        (
            [
                ProjectDigest(
                    "1",
                    "shop",
                    (PendingApproval("Bash", "rm build"),),
                    (FinishedExecution(5.0, "FAILED", "tidy"),),
                    4,
                    1,
                )
            ],
            "1 approval waits, 1 failed, 4 finished: shop",
            f"Bash waits for your answer.\nrm build\nFailed after 5 s (FAILED).\ntidy\n4 more ended.\n{BASE}/p/1",
        ),
        (
            [
                ProjectDigest("1", "shop", (PendingApproval("Bash"),)),
                ProjectDigest("2", "blog", (PendingApproval("Edit"),)),
            ],
            "2 approvals wait: 2 projects",
            f"shop: Bash waits for your answer.\nblog: Edit waits for your answer.\n{BASE}/",
        ),
    ],
)
def test_it_says_what_happened_where(news: list[ProjectDigest], title: str, body: str) -> None:
    found = compose(news, BASE)
    assert (found.title, found.body) == (title, body)


def test_an_approval_is_more_urgent_than_an_end() -> None:
    failed = ProjectDigest("1", "shop", executions=(FinishedExecution(1.0, "EXECUTION_FAILED"),), failed=1)
    finished = ProjectDigest("2", "blog", executions=(FinishedExecution(1.0),), finished=1)
    approval = ProjectDigest("3", "wiki", (PendingApproval("Bash"),))
    assert [compose(news, BASE).urgency for news in ([finished], [failed, finished], [failed, approval])] == [
        "success",
        "failure",
        "warning",
    ]


def test_names_and_texts_stay_in_their_line_and_short() -> None:
    name = "a\nb\x1b[31m\u2028" + "x" * 500
    found = compose([ProjectDigest("1", name, (PendingApproval("T\r\nool", "y" * 5000),))], BASE)
    assert "\n" not in found.title
    assert "\x1b" not in found.title + found.body
    assert len(found.title) < 120
    assert len(found.body.splitlines()) == 3
    assert len(found.body) < 500


def test_many_projects_are_counted() -> None:
    found = compose(
        [ProjectDigest(str(number), f"p{number}", (PendingApproval("Bash"),)) for number in range(50)], BASE
    )
    assert found.title == "50 approvals wait: 50 projects"
    assert "And 45 more projects." in found.body


def test_a_trial() -> None:
    assert trial(BASE) == Notification(
        "Pocket Agent: a test", f"Notifications of Pocket Agent Server arrive here.\n{BASE}/", "info"
    )
