"""Parquet and folder readers, on files written here with Pillow and pyarrow."""

import io
import json
import multiprocessing

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from leantrain.data import ArrayDataset, LazyDataset, load
from leantrain.data.readers import decode, encoded


def png(seed, size=(8, 8), mode="RGB"):
    """A random picture: (pixels as Pillow holds them, PNG bytes)."""
    channels = {"RGB": (3,), "L": (), "RGBA": (4,)}[mode]
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], *channels), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return pixels, buffer.getvalue()


def write(path, images, labels, image="image", label="label", names=None, struct=True):
    column = [{"bytes": b, "path": None} for b in images] if struct else images
    table = pa.table({image: column, label: labels})
    if names:
        features = {label: {"names": names, "_type": "ClassLabel"}, image: {"_type": "Image"}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path)


@pytest.fixture
def table(tmp_path):
    """A folder with four training and two test images in two named classes."""
    write(tmp_path / "train.parquet", [png(i)[1] for i in range(4)], [0, 1, 1, 0], names=["cat", "dog"])
    write(tmp_path / "test.parquet", [png(i)[1] for i in (4, 5)], [1, 0], names=["cat", "dog"])
    return tmp_path


@pytest.fixture
def tree(tmp_path):
    """An image folder with two classes, two training images each and one test image each, 8x8."""
    for split, count in (("train", 2), ("test", 1)):
        for label, name in enumerate(("cat", "dog")):
            (tmp_path / split / name).mkdir(parents=True)
            for i in range(count):
                (tmp_path / split / name / f"{i}.png").write_bytes(png(10 * label + i)[1])
    return tmp_path


def fails(error, text, spec, **options):
    with pytest.raises(error) as caught:
        load(spec, **options)
    assert text in str(caught.value)


# Parquet


def test_parquet_gives_the_pixels_labels_and_names(table):
    data = load(f"parquet:{table}")
    assert isinstance(data.train, ArrayDataset)
    assert data.train.images.shape == (4, 3, 8, 8)
    for i in range(4):
        assert np.array_equal(data.train.images[i].permute(1, 2, 0).numpy(), png(i)[0])
    assert data.targets.tolist() == [0, 1, 1, 0]
    assert data.test_targets.tolist() == [1, 0]
    assert data.classes == ("cat", "dog")
    assert data.augment == {"pad": 1, "flip": True}


def test_parquet_layouts_of_the_hub(tmp_path):
    shards = [[png(0)[1], png(1)[1]], [png(2)[1]]]
    for i, images in enumerate(shards):
        write(tmp_path / "data" / f"train-0000{i}-of-00002.parquet", images, [0, 1][: len(images)], "img", "fine_label")
    write(tmp_path / "data" / "validation-00000-of-00001.parquet", [png(3)[1]], [1], "img", "fine_label", struct=False)
    data = load(f"parquet:{tmp_path}")
    assert data.targets.tolist() == [0, 1, 0]
    assert data.classes == ("0", "1")
    assert np.array_equal(data.train.images[2].permute(1, 2, 0).numpy(), png(2)[0])
    assert np.array_equal(data.test[0][0].permute(1, 2, 0).numpy(), png(3)[0])


def test_parquet_string_labels(tmp_path):
    write(tmp_path / "train.parquet", [png(i)[1] for i in range(3)], ["dog", "cat", "dog"])
    write(tmp_path / "test.parquet", [png(3)[1]], ["cat"])
    data = load(f"parquet:{tmp_path}")
    assert data.classes == ("cat", "dog")
    assert data.targets.tolist() == [1, 0, 1]
    write(tmp_path / "test.parquet", [png(3)[1]], ["cow"])
    fails(ValueError, "label 'cow' does not occur in the training split", f"parquet:{tmp_path}")


def test_grey_images_keep_one_channel_unless_one_is_in_colour(tmp_path):
    grey, colour = png(0, mode="L"), png(1)
    write(tmp_path / "train.parquet", [grey[1], grey[1]], [0, 1])
    write(tmp_path / "test.parquet", [grey[1]], [0])
    data = load(f"parquet:{tmp_path}")
    assert data.train.images.shape == (2, 1, 8, 8)
    assert np.array_equal(data.train.images[0, 0].numpy(), grey[0])
    assert (data.channels, data.augment["flip"]) == (1, False)
    write(tmp_path / "test.parquet", [colour[1]], [0])
    data = load(f"parquet:{tmp_path}")
    assert data.channels == 3
    assert all(np.array_equal(data.train.images[0, c].numpy(), grey[0]) for c in range(3))


def test_images_of_different_sizes_need_image_size(tmp_path):
    write(tmp_path / "train.parquet", [png(0)[1], png(1, (8, 10))[1]], [0, 1])
    write(tmp_path / "test.parquet", [png(2, (12, 9))[1]], [0])
    fails(ValueError, "row 1 is 8x10; the first training image is 8x8. Give image_size", f"parquet:{tmp_path}")
    data = load(f"parquet:{tmp_path}", image_size=8)
    assert data.train.images.shape == (2, 3, 8, 8)
    # The second is not resized, since its shorter side fits: its middle rows are taken as they are.
    assert np.array_equal(data.train.images[1].permute(1, 2, 0).numpy(), png(1, (8, 10))[0][1:9])
    write(tmp_path / "train.parquet", [png(1, (8, 10))[1], png(0)[1]], [0, 1])
    fails(ValueError, "row 0 is 8x10, not square. Give image_size", f"parquet:{tmp_path}")


def test_too_much_for_memory_is_decoded_on_demand(table, monkeypatch):
    memory = load(f"parquet:{table}")
    monkeypatch.setattr(encoded, "_IN_MEMORY", 6 * 3 * 64 - 1)
    data = load(f"parquet:{table}")
    assert isinstance(data.train, LazyDataset)
    assert data.fingerprint == memory.fingerprint
    for i in range(4):
        assert torch.equal(data.train[i][0], memory.train[i][0])
        assert data.train[i][1] == memory.train[i][1]
    monkeypatch.setattr(encoded, "_IN_MEMORY", 6 * 3 * 64)
    assert isinstance(load(f"parquet:{table}").train, ArrayDataset)


def test_limit_and_content_change_the_fingerprint(tmp_path, table):
    base = load(f"parquet:{table}").fingerprint
    assert load(f"parquet:{table}").fingerprint == base
    assert load(f"parquet:{table}", limit=3).fingerprint != base
    write(table / "train.parquet", [png(i)[1] for i in (0, 1, 2, 9)], [0, 1, 1, 0], names=["cat", "dog"])
    assert load(f"parquet:{table}").fingerprint != base


def test_cifar10_is_recognised_by_its_class_names(tmp_path):
    names = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
    for split in ("train", "test"):
        write(tmp_path / f"{split}.parquet", [png(0, (32, 32))[1]] * 2, [0, 9], names=names)
    data = load(f"parquet:{tmp_path}")
    assert data.mean == (0.4914, 0.4822, 0.4465)
    assert data.std == (0.2470, 0.2435, 0.2616)
    assert data.augment == {"pad": 4, "flip": True}


@pytest.mark.parametrize(
    ("columns", "text"),
    [
        ({"picture": [b""], "label": [0]}, "has no column 'image' (nor img); its columns are: picture, label"),
        ({"image": [b""], "species": [0]}, "has no column 'label'"),
        ({"image": [1, 2], "label": [0, 1]}, "column 'image' is int64; expected struct<bytes: binary, ...> or binary"),
        ({"image": [b"", b""], "label": [0, None]}, "row 1: 'label' is null"),
        ({"image": [b"", None], "label": [0, 1]}, "row 1: 'image' holds no bytes; embed the images"),
        (
            {"image": [{"bytes": b"", "path": ""}, {"bytes": None, "path": "/etc/passwd"}], "label": [0, 1]},
            "row 1: 'image' holds no bytes",
        ),
        ({"image": [b"", b""], "label": [0.5, 1.0]}, "'label' is double; labels have to be integers or strings"),
        ({"image": [b"", b""], "label": [0, -1]}, "row 1: label -1 is outside 0..0"),
        ({"image": [b"", b""], "label": [0, 0]}, "all 2 samples have label 0"),
        ({"image": [png(0)[1], b"no image"], "label": [0, 1]}, "row 1 is not a readable image"),
        (
            {"image": [png(0)[1], png(1)[1][:90]], "label": [0, 1]},
            "row 1 is not a readable image (corrupt or truncated)",
        ),
    ],
)
def test_unusable_tables_are_explained(table, columns, text):
    pq.write_table(pa.table(columns), table / "train.parquet")
    fails(ValueError, text, f"parquet:{table}")


def test_empty_broken_and_missing_tables(table):
    write(table / "train.parquet", [png(0)[1]], [0])
    pq.write_table(pq.read_table(table / "train.parquet").slice(0, 0), table / "train.parquet")
    fails(ValueError, "train.parquet holds no samples", f"parquet:{table}")
    (table / "train.parquet").write_bytes(b"PAR1 and no more")
    fails(ValueError, "train.parquet is not a readable Parquet file", f"parquet:{table}")
    (table / "train.parquet").unlink()
    fails(FileNotFoundError, "lacks train.parquet (it holds test.parquet)", f"parquet:{table}")


def test_labels_of_the_test_split_are_checked(table):
    write(table / "test.parquet", [png(0)[1]], [2])
    fails(ValueError, "test.parquet, row 0: label 2 is outside 0..1", f"parquet:{table}")
    write(table / "test.parquet", [png(0)[1]], [1], label="fine_label")
    fails(ValueError, "test.parquet has no column 'label', which the training split has", f"parquet:{table}")


# Folders


def test_folder_of_small_images_is_held_in_memory(tree):
    data = load(f"imagefolder:{tree}")
    assert isinstance(data.train, ArrayDataset)
    assert data.classes == ("cat", "dog")
    assert data.targets.tolist() == [0, 0, 1, 1]
    assert np.array_equal(data.train.images[3].permute(1, 2, 0).numpy(), png(11)[0])


def test_folder_of_large_images_is_decoded_on_demand(tree):
    (tree / "train" / "cat" / "0.png").write_bytes(png(0, (300, 280))[1])
    (tree / "train" / "cat" / "1.png").write_bytes(png(0, (30, 20), "RGBA")[1])
    (tree / "train" / "dog" / "0.png").write_bytes(png(0, (256, 258), "L")[1])
    data = load(f"imagefolder:{tree}")
    assert isinstance(data.train, LazyDataset)
    assert (data.image_size, data.channels) == (224, 3)
    assert data.mean == (0.485, 0.456, 0.406)
    assert data.augment == {"resized_crop": True, "flip": True}
    assert all(data.train[i][0].shape == (3, 256, 256) for i in range(4))
    # 256 wide fits as it is, and of 258 rows the first and the last go.
    assert np.array_equal(data.train[2][0][1].numpy(), png(0, (256, 258), "L")[0][1:257])
    assert load(f"imagefolder:{tree}", image_size=112).train[0][0].shape == (3, 128, 128)


def test_lazy_images_travel_to_spawned_workers(tree, monkeypatch):
    monkeypatch.setattr(encoded, "_IN_MEMORY", 0)
    data = load(f"imagefolder:{tree}")
    context = multiprocessing.get_context("spawn")
    loader = DataLoader(data.train, batch_size=4, num_workers=1, multiprocessing_context=context)
    images, targets = next(iter(loader))
    assert torch.equal(images, torch.stack([data.train[i][0] for i in range(4)]))
    assert targets.tolist() == [0, 0, 1, 1]


def test_folder_fingerprint_covers_names_sizes_and_labels(tree, tmp_path):
    base = load(f"imagefolder:{tree}").fingerprint
    moved = tmp_path.with_name(tmp_path.name + "-moved")
    tree.rename(moved)
    assert load(f"imagefolder:{moved}").fingerprint == base
    file = moved / "train" / "cat" / "0.png"
    content = file.read_bytes()
    file.write_bytes(content + b"\0")
    assert load(f"imagefolder:{moved}").fingerprint != base
    file.unlink()
    (moved / "train" / "cat" / "00.png").write_bytes(content)
    assert load(f"imagefolder:{moved}").fingerprint != base


def test_other_files_are_passed_over(tree):
    (tree / "train" / "cat" / "notes.txt").write_text("no image")
    (tree / "train" / "cat" / ".0.png").write_text("left by another program")
    (tree / "train" / ".cache").mkdir()
    assert load(f"imagefolder:{tree}").targets.tolist() == [0, 0, 1, 1]


def test_val_stands_in_for_test(tree):
    (tree / "test").rename(tree / "val")
    assert load(f"imagefolder:{tree}").test_targets.tolist() == [0, 1]


def test_unusable_folders_are_explained(tree):
    spec = f"imagefolder:{tree}"
    (tree / "test" / "cow").mkdir()
    fails(ValueError, "class 'cow' does not occur in the training folder", spec)
    (tree / "train" / "cow").mkdir()
    fails(ValueError, "train/cow holds no images", spec)
    (tree / "train" / "cow" / "0.png").write_bytes(b"moo")
    fails(ValueError, "train/cow/0.png is not a readable image", spec)
    (tree / "train").rename(tree / "training")
    fails(FileNotFoundError, "needs the folders train and test (or val); it holds test, training", spec)
    (tree / "train").mkdir()
    fails(ValueError, "train holds no class folders", spec)


def test_a_file_that_breaks_later_is_named(tree, monkeypatch):
    monkeypatch.setattr(encoded, "_IN_MEMORY", 0)
    data = load(f"imagefolder:{tree}")
    file = tree / "train" / "dog" / "1.png"
    file.write_bytes(file.read_bytes()[:60])
    with pytest.raises(ValueError, match=r"train/dog/1.png is not a readable image"):
        data.train[3]
    file.unlink()
    with pytest.raises(FileNotFoundError, match=r"train/dog/1.png is gone"):
        data.train[3]


# Decoding


def test_decompression_bombs_are_refused(monkeypatch):
    assert decode._MAX_PIXELS == Image.MAX_IMAGE_PIXELS
    monkeypatch.setattr(decode, "_MAX_PIXELS", 63)
    with pytest.raises(ValueError, match="x claims more than 63 pixels, which is refused as a decompression bomb"):
        decode.decode(png(0)[1], "x")
    for limit in (60, 20):  # Pillow warns of 64 pixels (here an error), and refuses more than twice its limit
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        with pytest.raises(ValueError, match="refused as a decompression bomb"):
            decode.dimensions(png(0)[1], "x")


def test_formats_that_start_other_programs_are_not_opened():
    script = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n%%EOF\n"
    assert Image.open(io.BytesIO(script)).format == "EPS"  # Pillow itself would hand it to Ghostscript
    with pytest.raises(ValueError, match=r"not a readable image.*cannot identify"):
        decode.decode(script, "x")


def test_sixteen_bits_are_refused():
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((4, 4), dtype=np.uint16)).save(buffer, "PNG")
    with pytest.raises(ValueError, match="x has more than 8 bits a channel"):
        decode.decode(buffer.getvalue(), "x")


def test_fit_keeps_the_middle():
    pixels = np.zeros((20, 40, 3), dtype=np.uint8)
    pixels[:, 10:30] = 255
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    assert (decode.decode(buffer.getvalue(), "x", size=20) == 255).all()
    half = decode.decode(buffer.getvalue(), "x", size=10)
    assert half.shape == (3, 10, 10)
    assert (half[:, :, 1:-1] == 255).all()


def test_a_very_long_image_takes_little_memory():
    buffer = io.BytesIO()
    Image.new("RGB", (1_000_000, 1)).save(buffer, "PNG")
    assert decode.decode(buffer.getvalue(), "x", size=256).shape == (3, 256, 256)


def test_order_survives_the_pool(monkeypatch):
    monkeypatch.setattr(decode, "_CHUNK", 3)
    images = [png(i)[1] for i in range(20)]
    out, _ = decode.decode_all(images, [str(i) for i in range(20)], size=8, resize=False)
    assert all(np.array_equal(out[i].permute(1, 2, 0).numpy(), png(i)[0]) for i in range(20))
