"""What committees ask, by the list that they work with; each question with what the run can say to it."""

from dataclasses import dataclass

from phantomset.pipelines.dossier import measured as run
from phantomset.pipelines.dossier.measured import Measured


@dataclass(frozen=True, slots=True)
class Question:
    """One cell.

    Attributes:
        name: how an answer names it, such as "edpb.dpia".
        text: the question.
        measured: what the run says to it; None where only people can answer.
    """

    name: str
    text: str
    measured: Measured | None = None


@dataclass(frozen=True, slots=True)
class Framework:
    """One list, with its source."""

    title: str
    source: str
    questions: tuple[Question, ...]


EDPB = Framework(
    "Is the result anonymous? (EDPB)",
    "European Data Protection Board, Opinion 28/2024 on AI models",
    (
        Question("edpb.sources", "How were the sources chosen, and on which legal basis are they used?"),
        Question("edpb.minimisation", "What was left out before training?", run.minimised),
        Question("edpb.training", "Which choices in training limit what is learned by heart?", run.training),
        Question("edpb.output", "What is released, and what is not?", run.output),
        Question("edpb.audit", "How was it audited, and what would the audit have seen?", run.power),
        Question("edpb.membership", "Can membership be inferred?", run.membership),
        Question("edpb.attributes", "Can attributes be inferred?", run.attributes),
        Question("edpb.regurgitation", "Are training images given out again?", run.regurgitation),
        Question("edpb.reconstruction", "Can a person be recognised or reconstructed?", run.linking),
        Question("edpb.extraction", "Can data be extracted from the model, or by asking it?", run.weights),
        Question("edpb.dpia", "Where is the data protection impact assessment, and what does it say?"),
        Question("edpb.dpo", "What does the data protection officer advise?"),
        Question("edpb.residual", "Which risk remains, considering all means reasonably likely to be used?"),
    ),
)

HIPAA = Framework(
    "Expert determination (HIPAA)",
    "45 CFR 164.514(b)(1)",
    (
        Question("hipaa.expert", "Who is the expert, and by which knowledge and experience?"),
        Question("hipaa.threshold", "Which threshold was fixed before measuring?", run.rules),
        Question("hipaa.method", "By which methods was the risk measured, and do they work?", run.controls),
        Question("hipaa.result", "What was measured?", run.membership),
        Question("hipaa.transformed", "What was changed, and measured again?", run.earlier),
        Question("hipaa.small", "Is the risk very small that a recipient identifies an individual?"),
        Question("hipaa.documented", "Which record of methods and results is kept?", run.verdict),
    ),
)

SHDGF = Framework(
    "Six steps (SHDGF)",
    "Synthetic Health Data Governance Framework, Digital Health CRC, Australia (draft)",
    (
        Question("shdgf.use", "Step 1: which use case, for whom, and with which benefit?"),
        Question("shdgf.source", "Step 2: which source data?", run.counts),
        Question("shdgf.generate", "Step 3: how was the set generated?", run.training),
        Question("shdgf.utility", "Step 3: how useful is it?", run.usefulness),
        Question("shdgf.risk", "Step 4: is the risk of re-identification very low?", run.strength),
        Question("shdgf.safe", "Step 5: is access safe (Five Safes)?"),
        Question("shdgf.sign", "Step 6: who signs, and when is it looked at again?"),
    ),
)

FIVE_SAFES = Framework(
    "Five Safes",
    "Desai, Ritchie and Welpton 2016",
    (
        Question("safes.projects", "Safe projects: is this use of the data appropriate?"),
        Question("safes.people", "Safe people: can the users be trusted to use it as agreed?"),
        Question("safes.settings", "Safe settings: does the place of access limit misuse?"),
        Question("safes.data", "Safe data: is there a risk of disclosure in the data itself?", run.verdict),
        Question("safes.outputs", "Safe outputs: what leaves, and can it disclose?", run.output),
    ),
)

ISO_27559 = Framework(
    "De-identification framework (ISO/IEC 27559:2022)",
    "Headings of ISO/IEC 27559:2022; terms of ISO/IEC 20889",
    (
        Question("iso.context", "Context assessment: who receives the data, under which controls?"),
        Question("iso.average", "Data assessment: what is the risk on average?", run.strength),
        Question("iso.maximum", "Data assessment: what is the greatest risk, of any group?", run.worst_group),
        Question("iso.adversarial", "Identifiability: which adversarial tests were made?", run.regurgitation),
        Question("iso.mitigation", "Identifiability: what mitigates the risk?", run.minimised),
        Question("iso.waived", "Governance: was anything waived?", run.waived),
        Question("iso.governance", "Governance: who is accountable, and who looks at it again, and when?"),
    ),
)

SEVEN_CS = Framework(
    "Seven Cs of synthetic medical data",
    "Zamzmi et al., Communications Engineering 2025",
    (
        Question("cs.congruence", "Congruence: does it agree with real data?", run.congruence),
        Question("cs.coverage", "Coverage: does it reach the variety of real data?", run.coverage),
        Question("cs.constraint", "Constraint: does it keep to anatomy and physics?"),
        Question(
            "cs.completeness", "Completeness: is everything there that the task needs?", run.completeness
        ),
        Question("cs.compliance", "Compliance: does it keep to rules of privacy?", run.verdict),
        Question(
            "cs.comprehension", "Comprehension: can a user understand what it is and shows?", run.labels
        ),
        Question("cs.consistency", "Consistency: does the same come out again?", run.consistency),
    ),
)

FRAMEWORKS = (EDPB, HIPAA, SHDGF, FIVE_SAFES, ISO_27559, SEVEN_CS)
"""The lists, in the order of the page."""


def questions() -> dict[str, Question]:
    """Return every question by its name."""
    return {each.name: each for framework in FRAMEWORKS for each in framework.questions}
