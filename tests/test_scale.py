"""The estimate of large caches: arithmetic on measured and assumed figures."""

import pytest

from recipes.performance.scale import Assumed, Measured, main, measure, stages

MEASURED = Measured(
    bytes_a_clip=1000.0, write_rows=1e4, take_rows=1e5, index_rows=100, open_seconds=1.0,
    open_megabytes=1.0, hash_gigabytes=1.0,
)  # fmt: skip


def test_stages_by_hand():
    assumed = Assumed(
        clips=1e6,
        batch=10,
        clip_megabytes=2.0,
        decoded_megabytes=5.0,
        sample_megabytes=1.0,
        decode_seconds=0.1,
        teacher_gigaflop=100.0,
        student_gigaflop=10.0,
        student_parameters=1e6,
        teraflops=10.0,
        cores=10,
        read_gigabytes=1.0,
        network_gigabytes=8.0,
    )
    found = stages(assumed, MEASURED, 10)
    assert found["caching, with index"] == pytest.approx(
        {
            "reading clips": 200.0,
            "decoding clips": 1000.0,
            "teacher": 1000.0,
            "hashing clips": 500.0,
            "writing the cache": 10.0,
        }
    )
    assert found["an epoch, cached, without index"] == pytest.approx(
        {
            "reading the student's inputs": 100.0,
            "student": 300.0,
            "averaging gradients": 10.0,
            "reading the cache": 1.0,
            "hashing the student's inputs": 100.0,
        }
    )
    assert found["an epoch, not cached"]["both models"] == pytest.approx(1300.0)
    assert found["an epoch, not cached"]["reading both inputs"] == pytest.approx(300.0)


def test_measured_bytes_are_those_of_the_files():
    found = measure(rows=4096, index_rows=1000, size=32, batch=8)
    assert found.bytes_a_clip == 32 * 2 + 3 * 8  # float16, two keys and a checksum
    assert found.open_megabytes == 1000 * 4 * 8 / 1e6
    assert min(found.write_rows, found.take_rows, found.hash_gigabytes) > 0


def test_page_names_assumptions(tmp_path, capsys):
    main(["--clips", "1000", "--rows", "2048", "--index-rows", "1000", "--output", str(tmp_path)])
    page = (tmp_path / "scale.md").read_text()
    assert page == capsys.readouterr().out
    assert "- clips: 1,000" in page
    assert "64 accelerators" in page
    assert "decoding clips" in page
