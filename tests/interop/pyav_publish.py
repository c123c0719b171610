"""Publishes a file by PyAV at its own pace, without touching a packet: FILE URL SHIFT_MS"""

import sys
import time

import av

path, url, shift_ms = sys.argv[1], sys.argv[2], int(sys.argv[3])
with av.open(path) as source, av.open(url, "w", format="flv") as target:
    # opaque: the codec's parameters alone, whether or not an encoder of that name is there.
    streams = {stream.index: target.add_stream_from_template(stream, opaque=True) for stream in source.streams}
    began = time.monotonic()
    for packet in source.demux():
        if packet.dts is None:
            continue
        time.sleep(max(0, began + float(packet.dts * packet.time_base) - time.monotonic()))
        shift = int(shift_ms / 1000 / packet.time_base)
        packet.pts += shift
        packet.dts += shift
        packet.stream = streams[packet.stream.index]
        target.mux(packet)
