"""The page's sections on robustness."""

from mrirecon.evaluation.grid import robust_charts
from mrirecon.evaluation.grid.results import GridRun
from mrirecon.evaluation.grid.robust_tables import KINDS, corruption_table, gap_table, kinds_of, lesion_table
from mrirecon.evaluation.grid.sections import chart, folded, section
from mrirecon.evaluation.grid.tables import setting_label
from mrirecon.evaluation.report import table_html

CORRUPTIONS = (
    "Applied to the measurement between undersampling and reconstruction, the same for all methods; scored against the "
    "fully sampled image. Level 0: nothing. Lines join medians over subjects; bars are 95 % intervals."
)
WORST = (
    " The worst-case perturbation is found for each method by gradient ascent on its error, within the norm that noise "
    "of that level has; beside it stands noise of the same norm that nobody chose. Levels are in units of the scan's "
    "own noise."
)
LESIONS = (
    "Round lesions were inserted into the fully sampled k-space, in even tissue. A lesion is detected where the image "
    "shows at least half of the contrast that the fully sampled image shows, against the ring around it. It falsely "
    "appears where the image of the scan without lesions shows as much at the same place. Rates are means over "
    "subjects of the share of their lesions, with 95 % bootstrap intervals from 6 subjects on. Methods named oracle "
    "are left out."
)
GAP = (
    "SSIM of the method trained (or tuned) on the test data's kind minus SSIM of the one that was not, paired by "
    "subject, in the settings of the robustness tests. Above zero: so much is lost on data unlike the training data."
)


def robustness(run: GridRun) -> str:
    """All that a run has of it, as HTML."""
    parts = []
    if run.corrupted:
        tables = "".join(
            folded(f"{KINDS[kind][0]}, {setting_label(setting)}", table_html(corruption_table(run, kind, setting)))
            for kind, setting in kinds_of(run)
        )
        body = chart(robust_charts.against_level(run), "SSIM against the level of each corruption") + tables
        parts.append(section("Robustness: corrupted measurements", body, CORRUPTIONS + WORST))
    if any(cell.findings for cell in run.lesions):
        body = chart(robust_charts.lesions_seen(run), "Detection and false appearance of inserted lesions")
        body += f'<div class="table">{table_html(lesion_table(run))}</div>'
        parts.append(section("Robustness: inserted lesions", body, LESIONS))
    if run.gap:
        body = f'<div class="table">{table_html(gap_table(run))}</div>'
        parts.append(section("Robustness: the gap to training on the test data's kind", body, GAP))
    return "".join(parts)
