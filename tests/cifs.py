"""The text of a CIF."""


def cif(sites: str, length: float = 4.2, symmetry: str = "") -> str:
    """A cubic cell. length: Å. sites: lines of label, symbol, x, y, z, occupancy."""
    return f"""data_x
_cell_length_a {length}
_cell_length_b {length}
_cell_length_c {length}
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
{symmetry}
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_occupancy
{sites}
"""
