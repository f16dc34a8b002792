"""Prints, as C++ literals, records that TensorBoard's own classes write (pip install tensorboard).

The bytes stand in event_writer_test.cc, which demands that Tanren's writer gives the same.
"""
import os
import tempfile

from tensorboard.compat.proto import event_pb2
from tensorboard.summary.writer.record_writer import RecordWriter


def framed(payload):
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "records")
        with open(path, "wb") as file:
            RecordWriter(file).write(payload)
        with open(path, "rb") as file:
            return file.read()


def show(name, data):
    print(f"{name}: {len(data)} bytes")
    for start in range(0, len(data), 24):
        print('    "' + "".join(f"\\x{byte:02x}" for byte in data[start:start + 24]) + '"')


show("record of 123456789", framed(b"123456789"))
show("empty record", framed(b""))

event = event_pb2.Event(wall_time=1234.5, step=7)
event.summary.value.add(tag="train/loss", simple_value=4.25)
event.summary.value.add(tag="validation/loss", simple_value=float("inf"))
show("scalars", event.SerializeToString(deterministic=True))

event = event_pb2.Event(wall_time=1234.5, step=8)
event.session_log.status = 1  # START
show("session start", event.SerializeToString(deterministic=True))

event = event_pb2.Event(wall_time=1234.5, step=9)
value = event.summary.value.add(tag="samples/0")
value.metadata.plugin_data.plugin_name = "text"
value.tensor.dtype = 7  # DT_STRING
value.tensor.tensor_shape.dim.add().size = 1
value.tensor.string_val.append(b"hello")
show("text", event.SerializeToString(deterministic=True))
