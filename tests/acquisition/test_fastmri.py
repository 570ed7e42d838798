import h5py
import numpy as np
import pytest

from mrirecon.acquisition.array_files import open_arrays
from mrirecon.acquisition.header import header_of


def open_scan(path, key=None, axes=None):
    """The only volume of a file."""
    (scan,) = open_arrays(path, key, axes)
    return scan


def test_multicoil_with_header_target_and_contrast(write_fastmri, kspace, header_xml):
    target = np.random.default_rng(0).random((3, 32, 24)).astype(np.float32)
    attrs = {"acquisition": "AXFLAIR", "patient_id": "PID-4711", "max": 1.0}
    scan = open_scan(write_fastmri(attrs=attrs, ismrmrd_header=header_xml(), reconstruction_rss=target))
    header = scan.header
    assert scan.format == "fastMRI HDF5"
    assert scan.shape == kspace.shape
    np.testing.assert_array_equal(scan.kspace(2), kspace[2])
    assert scan.target_name == "reconstruction_rss"
    np.testing.assert_array_equal(scan.read_target(1), target[1])
    # Padding: 48 // 2 - 20 = 4 columns on the left, then 41 lines.
    assert header.acquired == ((0, 64), (4, 45))
    assert (header.readout_axis, header.recon_size, header.fov_mm) == ("y", (32, 24), (220, 165))
    assert (header.tr_ms, header.te_ms, header.ti_ms, header.flip_angle_deg) == (9000, 81, 2500, 150)
    assert header.field_strength_t == pytest.approx(2.8936)
    assert (header.slice_thickness_mm, header.contrast) == (5, "AXFLAIR")
    assert "PID-4711" not in repr(scan)
    assert "Secret" not in repr(scan)
    assert scan.notes == ()


def test_singlecoil_has_one_coil_and_its_own_target(write_fastmri, kspace, header_xml):
    targets = {"reconstruction_esc": np.ones((3, 32, 24)), "reconstruction_rss": np.zeros((3, 32, 24))}
    scan = open_scan(write_fastmri(kspace[:, 0], ismrmrd_header=header_xml(), **targets))
    assert scan.shape == (3, 1, 64, 48)
    np.testing.assert_array_equal(scan.kspace(1), kspace[1, :1])
    assert scan.target_name == "reconstruction_esc"


def test_without_header_the_unknown_is_said(write_fastmri, kspace):
    scan = open_scan(write_fastmri())
    assert scan.shape == kspace.shape
    assert scan.header.acquired is None
    assert "no header" in scan.notes[0]


def test_three_axes_without_any_mark_of_fastmri_are_guessed_as_coils(write_fastmri, kspace):
    scan = open_scan(write_fastmri(kspace[0]))
    assert scan.shape == (1, 4, 64, 48)
    assert scan.format == "HDF5"


def test_test_files_carry_a_mask_of_columns(write_fastmri, kspace):
    mask = np.arange(48) % 4 == 0
    scan = open_scan(write_fastmri(kspace * mask, mask=mask.astype(np.float32)))
    assert scan.stored_mask.shape == (64, 48)
    assert (scan.stored_mask == mask).all()


def test_a_mask_of_rows_and_columns_is_taken_and_a_strange_one_noted(write_fastmri):
    mask = np.random.default_rng(0).random((64, 48)) < 0.3
    np.testing.assert_array_equal(open_scan(write_fastmri(mask=mask)).stored_mask, mask)
    strange = open_scan(write_fastmri(mask=np.ones(47)))
    assert strange.stored_mask is None
    assert any("mask (47) does not fit" in note for note in strange.notes)


@pytest.mark.parametrize("damage", [lambda xml: xml[:200], lambda xml: b"", lambda xml: b"\xff\xfe" + xml[:99]])
def test_a_damaged_header_is_a_note(write_fastmri, kspace, header_xml, damage):
    scan = open_scan(write_fastmri(ismrmrd_header=damage(header_xml())))
    assert scan.shape == kspace.shape
    assert "header is damaged" in scan.notes[0]


def test_an_entity_bomb_is_a_damaged_header():
    bomb = b'<!DOCTYPE a [<!ENTITY b "bbbb"><!ENTITY c "&b;&b;">]><a>&c;</a>'
    assert "damaged" in header_of(bomb, 64, 48)[1][0]


def test_limits_that_do_not_fit_are_a_note(header_xml):
    for xml in (header_xml(encoded_y=40), header_xml(center=30)):
        header, notes = header_of(xml, rows=64, columns=48)
        assert header.acquired is None
        assert "encoding limits do not fit" in notes[0]


def test_numbers_that_are_none_are_unknown(header_xml):
    xml = header_xml().replace(b"9000", b"fast").replace(b"81.0", b"-1").replace(b">81<", b">-1<")
    header, _ = header_of(xml, 64, 48)
    assert header.tr_ms is None
    assert header.te_ms is None
    assert header.ti_ms == 2500


def test_the_layouts_own_axes_keep_header_and_mask_and_others_leave_them_aside(write_fastmri, header_xml, kspace):
    path = write_fastmri(ismrmrd_header=header_xml())
    assert open_scan(path, axes="slice,coil,ky,kx").header.field_strength_t
    other = open_scan(path, axes="slice,coil,kx,ky")
    assert other.shape == (3, 4, 48, 64)
    assert other.header.field_strength_t is None
    assert any("left aside" in note for note in other.notes)


def test_another_array_is_read_by_its_key(write_fastmri, kspace):
    path = write_fastmri()
    with h5py.File(path, "a") as file:
        file["second"] = kspace[:1]
    assert open_scan(path, key="second", axes="slice,coil,y,x").shape == (1, 4, 64, 48)
