"""Owns ten questions that the demo's business asks every day, and the program that asks them.

The program knows a DuckDB database with one view a table, and nothing of Reopen: it is asked the same text in
production, at the standby after the failover, and in production again after the failback. It runs by itself::

    python -m reopen.cli.demo.questions DATABASE [--save FILE | --same-as FILE | --sold-by CLERK]

Answers are exact (decimals, counts, dates), rounded where SQL gives floating point, and sorted without a tie, so that
equal data gives equal bytes. Exit 3 when an answer is not the one that was saved.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

EXIT_OTHER_ANSWERS = 3

QUESTIONS: Mapping[str, str] = {
    "What is open, by priority?": """
        SELECT o_orderpriority AS priority, count(*) AS orders, sum(o_totalprice) AS value
        FROM orders WHERE o_orderstatus = 'O' GROUP BY ALL ORDER BY ALL""",
    "What does each nation bring in, year by year?": """
        SELECT n_name AS nation, year(o_orderdate) AS year, sum(l_extendedprice * (1 - l_discount)) AS revenue
        FROM lineitem JOIN orders ON l_orderkey = o_orderkey JOIN customer ON o_custkey = c_custkey
        JOIN nation ON c_nationkey = n_nationkey GROUP BY ALL ORDER BY ALL""",
    "Who are the three best customers of each nation?": """
        WITH bought AS (
            SELECT n_name AS nation, c_name AS customer, sum(o_totalprice) AS value
            FROM orders JOIN customer ON o_custkey = c_custkey JOIN nation ON c_nationkey = n_nationkey GROUP BY ALL)
        SELECT nation, row_number() OVER (PARTITION BY nation ORDER BY value DESC, customer) AS place, customer, value
        FROM bought QUALIFY place <= 3 ORDER BY nation, place""",
    "How did revenue add up over 1997?": """
        WITH monthly AS (
            SELECT date_trunc('month', o_orderdate) AS month, sum(o_totalprice) AS value
            FROM orders WHERE year(o_orderdate) = 1997 GROUP BY ALL)
        SELECT strftime(month, '%B') AS name, value, sum(value) OVER (ORDER BY month) AS so_far
        FROM monthly ORDER BY month""",
    "How much do market segments grow?": """
        WITH yearly AS (
            SELECT c_mktsegment AS segment, year(o_orderdate) AS year, sum(o_totalprice) AS value
            FROM orders JOIN customer ON o_custkey = c_custkey GROUP BY ALL)
        SELECT segment, year, value, value - lag(value) OVER (PARTITION BY segment ORDER BY year) AS growth
        FROM yearly ORDER BY ALL""",
    "What does an order cost, the middle one and the dear ones?": """
        SELECT o_orderpriority AS priority, quantile_disc(o_totalprice, 0.5) AS middle,
               quantile_disc(o_totalprice, 0.95) AS dear, quantile_disc(o_totalprice, 0.99) AS dearest
        FROM orders GROUP BY ALL ORDER BY ALL""",
    "Which suppliers are the cheapest source of most parts?": """
        WITH cheapest AS (
            SELECT ps_partkey, min(ps_supplycost) AS cost FROM partsupp GROUP BY ALL)
        SELECT s_name AS supplier, count(*) AS parts
        FROM partsupp JOIN cheapest USING (ps_partkey) JOIN supplier ON ps_suppkey = s_suppkey
        WHERE ps_supplycost = cost GROUP BY ALL ORDER BY parts DESC, supplier LIMIT 10""",
    "Which makers have parts that no supplier has plenty of?": """
        SELECT p_mfgr AS maker, count(*) AS parts FROM part
        WHERE NOT EXISTS (SELECT 1 FROM partsupp WHERE ps_partkey = p_partkey AND ps_availqty > 2000)
        GROUP BY ALL ORDER BY ALL""",
    "How many deliveries were late, by way of shipping?": """
        SELECT l_shipmode AS way, count(*) AS lines, count(*) FILTER (l_receiptdate > l_commitdate) AS late,
               round(100.0 * late / lines, 2) AS percent
        FROM lineitem GROUP BY ALL ORDER BY ALL""",
    "Do customers come back, by the year of their first order?": """
        WITH first_orders AS (
            SELECT o_custkey, min(year(o_orderdate)) AS since FROM orders GROUP BY ALL)
        SELECT since, year(o_orderdate) - since AS years_later, count(DISTINCT o_custkey) AS customers
        FROM orders JOIN first_orders USING (o_custkey) GROUP BY ALL ORDER BY ALL""",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What a question was answered with. ``digest`` is of all rows, ``first`` the first of them as text."""

    rows: int
    digest: str
    first: str


def open_shop(data: Path, database: Path, tables: Sequence[str]) -> None:
    """Make the database that the business works with: a view over the files of each table, as they are when asked."""
    import duckdb

    database.unlink(missing_ok=True)
    with duckdb.connect(str(database)) as connection:
        for table in tables:
            pattern = str(data / table / "*.parquet").replace("'", "''")
            connection.execute(f"CREATE VIEW {table} AS SELECT * FROM read_parquet('{pattern}')")


def ask(database: Path) -> dict[str, Reply]:
    """Ask every question, in order."""
    import duckdb

    replies = {}
    with duckdb.connect(str(database), read_only=True) as connection:
        for title, question in QUESTIONS.items():
            rows = connection.execute(question).fetchall()
            digest = hashlib.sha256(repr(rows).encode()).hexdigest()[:16]
            first = ", ".join("-" if cell is None else str(cell) for cell in rows[0]) if rows else "nothing"
            replies[title] = Reply(rows=len(rows), digest=digest, first=first)
    return replies


def sold_by(database: Path, clerk: int) -> int:
    """How many orders of a clerk, and so of a till, the database shows."""
    import duckdb

    with duckdb.connect(str(database), read_only=True) as connection:
        query = "SELECT count(*) FROM orders WHERE o_clerk = ?"
        ((count,),) = connection.execute(query, [f"Clerk#{clerk:09d}"]).fetchall()
    return int(count)


def main(arguments: Sequence[str]) -> int:
    """Ask, print a line a question, and save or compare the answers. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m reopen.cli.demo.questions", description="Ask ten questions.")
    parser.add_argument("database", type=Path, help="a DuckDB database with a view for each table")
    parser.add_argument("--save", type=Path, metavar="FILE", help="keep the answers")
    parser.add_argument("--same-as", type=Path, metavar="FILE", help="compare with answers that were kept")
    parser.add_argument("--sold-by", type=int, metavar="CLERK", help="only say how many orders of a till there are")
    given = parser.parse_args(arguments)
    if given.sold_by is not None:
        sys.stdout.write(f"{sold_by(given.database, given.sold_by)} orders of till {given.sold_by} are in the tables\n")
        return 0
    replies = ask(given.database)
    kept = json.loads(given.same_as.read_text(encoding="utf-8")) if given.same_as else None
    other = 0
    for title, reply in replies.items():
        same = "" if kept is None else "same as before  " if kept.get(title) == reply.digest else "NOT AS BEFORE   "
        other += same.startswith("NOT")
        sys.stdout.write(f"{title:<60} {same}{reply.rows:>4} rows, the first: {reply.first}\n")
    if given.save:
        digests = {title: reply.digest for title, reply in replies.items()}
        given.save.write_text(json.dumps(digests, indent=1), encoding="utf-8")
    if kept is not None:
        sys.stdout.write(f"{len(replies) - other} of {len(replies)} answers are the same\n")
    return EXIT_OTHER_ANSWERS if other else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
