"""Lost answers to commits (C19, G5): applied by the server, and nobody is told.

The workers speak to their server through proxies.  Of the commits that pass, some
are applied while the reply is swallowed and the connection cut; a few are lost
before they reach the server.  Which it was, the worker cannot know: it must look.
"""
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from chaos import harness  # noqa: E402
from chaos.proxy import COMMITS, Proxy  # noqa: E402

BACKLOG = 100
SHARE = 0.08     # of the commits that lose their reply


def main():
    options = harness.arguments(
        __doc__, storages=tuple(COMMITS), default="zeo",
        replies=(200, 8, "how many replies to lose"))
    report = harness.Report(f"{options.replies} lost replies to commits", options)
    with harness.Arena(options) as arena:
        proxies = []
        for _ in range(2):
            proxy = Proxy(arena.server.port, COMMITS[options.storage], options.chance)
            proxies.append(proxy)
            arena.add_many(BACKLOG // 2)
            arena.ready(through=proxy)
            proxy.lose(SHARE)

        def lost():
            return sum(proxy.replies for proxy in proxies)
        end = time.monotonic() + harness.BOUND * (1 + options.replies / 20)
        while lost() < options.replies:
            counts = arena.counts()
            if counts["queued"] < BACKLOG:
                arena.add_many(BACKLOG)
            if time.monotonic() > end:
                report.add("replies lost in time", lost(), str(options.replies), False)
                break
            time.sleep(0.2)
        for proxy in proxies:
            proxy.lose(0)
        stumbled = [each for each in arena.processes if not each.alive]
        arena.finish()
        for proxy in proxies:
            proxy.close()
        report.add("commits seen", sum(proxy.commits for proxy in proxies))
        report.add("replies lost", lost(), f"{options.replies}", lost() >= options.replies)
        report.add("requests lost", sum(proxy.requests for proxy in proxies))
        report.add("workers that ended", len(stumbled), "0", not stumbled)
        report.judge(arena.verdict(), charged=0)
    return report.show()


if __name__ == "__main__":
    harness.command(main)
