"""Rounds of values to medians, ratios, a table in Markdown and JSON."""

import statistics

from .figures import FIGURES


class Results:
    """The values of each figure by round; a group that failed in a round has none there."""

    def __init__(self):
        self.rounds, self.disturbed, self.failed = [], [], []

    def add(self, round_index, values):
        while len(self.rounds) <= round_index:
            self.rounds.append({})
        self.rounds[round_index].update(values)

    def values(self, name):
        return [values[name] for values in self.rounds if name in values]

    def ratios(self, name, base):
        return [values[name] / values[base] for values in self.rounds
                if name in values and values.get(base)]

    def table(self, groups):
        rows = [("figure", "unit", "median", "least..most", "in ratio to"), ("---",) * 5]
        for figure in (figure for group in groups for figure in FIGURES[group]):
            values = self.values(figure.name)
            if not values:
                continue
            what = f"{figure.name} ({figure.what})" if figure.what else figure.name
            ratios = [(statistics.median(r), base) for base in figure.bases
                      if (r := self.ratios(figure.name, base))]
            rows.append((
                what, f"{figure.unit} {figure.better}", number(statistics.median(values)),
                f"{number(min(values))}..{number(max(values))}",
                ", ".join(f"{ratio:.2f} × {base}" for ratio, base in ratios)))
        return "\n".join(f"| {' | '.join(row)} |" for row in rows)

    def as_json(self, groups, machine):
        figures = {}
        for group in groups:
            for figure in FIGURES[group]:
                values = self.values(figure.name)
                figures[figure.name] = {
                    "group": group, "what": figure.what, "unit": figure.unit,
                    "better": "more" if figure.better == "+" else "less", "values": values,
                    "median": statistics.median(values) if values else None,
                    "ratios": {base: self.ratios(figure.name, base) for base in figure.bases},
                }
        return {"machine": machine, "figures": figures, "disturbed": self.disturbed,
                "failed": self.failed}


def number(value):
    """Three significant digits, without an exponent."""
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2 if abs(value) >= 1 else 3
    return f"{value:.{digits}f}"
