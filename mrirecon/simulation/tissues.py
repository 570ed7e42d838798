"""Tissues of the head and their MR parameters at 3 T.

Sources, by the letter beside each value:
  a  Wansapura et al., JMRI 9:531, 1999 (grey and white matter T1, T2)
  b  Stanisz et al., MRM 54:507, 2005 (muscle, blood, optic nerve)
  c  Gold et al., AJR 183:343, 2004 (fat and marrow; their T2 includes the brightening of fat in fast spin echoes)
  d  Peters et al., Magn Reson Imaging 25:748, 2007 (T2* of grey and white matter, caudate, putamen)
  e  Lin et al., JMRI 14:601, 2001; Piechnik et al., MRM 61:579, 2009 (cerebrospinal fluid)
  f  Wright et al., MAGMA 21:121, 2008; Gelman et al., MRM 45:71, 2001 (T1 and T2 of deep grey nuclei, rounded)
  g  Tofts (ed.), Quantitative MRI of the Brain, 2003 (proton densities; T1, T2 of MS lesions, mid-range)
  ~  effective value: chosen so that the tissue looks as it does in practice. Flowing blood is dark in a spin echo (flow
     void) and bright in a gradient echo (inflow); dura, skin and bone have little signal at any usual echo time.
"""

from dataclasses import dataclass
from enum import IntEnum


class Tissue(IntEnum):
    """Index of each tissue in an array of fractions."""

    AIR = 0
    SKIN = 1
    FAT = 2
    MUSCLE = 3
    BONE = 4
    MARROW = 5
    DURA = 6
    CSF = 7
    GREY = 8
    WHITE = 9
    CAUDATE = 10
    PUTAMEN = 11
    PALLIDUM = 12
    THALAMUS = 13
    BLOOD = 14
    PLEXUS = 15
    LESION = 16
    VITREOUS = 17


@dataclass(frozen=True)
class Parameters:
    """proton_density relative to water (0 to 1); relaxation times in milliseconds at 3 T."""

    proton_density: float
    t1_ms: float
    t2_ms: float
    t2star_ms: float


PARAMETERS: dict[Tissue, Parameters] = {
    Tissue.AIR: Parameters(0.0, 1000, 1, 1),
    Tissue.SKIN: Parameters(0.55, 900, 30, 12),  # ~
    Tissue.FAT: Parameters(0.85, 371, 133, 30),  # c, T2* ~
    Tissue.MUSCLE: Parameters(0.78, 1412, 50, 25),  # b, T2* ~
    Tissue.BONE: Parameters(0.15, 250, 1, 0.5),  # ~
    Tissue.MARROW: Parameters(0.75, 365, 100, 15),  # c, T2 shortened by trabeculae ~
    Tissue.DURA: Parameters(0.6, 900, 15, 8),  # ~
    Tissue.CSF: Parameters(1.0, 4300, 2000, 1000),  # e
    Tissue.GREY: Parameters(0.82, 1331, 110, 66),  # a d g
    Tissue.WHITE: Parameters(0.70, 832, 80, 53),  # a d g
    Tissue.CAUDATE: Parameters(0.80, 1250, 88, 41),  # f d
    Tissue.PUTAMEN: Parameters(0.79, 1180, 80, 32),  # f d
    Tissue.PALLIDUM: Parameters(0.73, 950, 62, 25),  # f, T2* ~
    Tissue.THALAMUS: Parameters(0.77, 1080, 85, 48),  # f, T2* ~
    Tissue.BLOOD: Parameters(0.85, 750, 18, 18),  # ~ flowing
    Tissue.PLEXUS: Parameters(0.82, 1500, 120, 60),  # ~
    Tissue.LESION: Parameters(0.86, 1400, 170, 100),  # g
    Tissue.VITREOUS: Parameters(1.0, 4000, 1500, 700),  # ~ nearly water
}
