"""Plays by PyAV and prints each packet: TRACK PTS DTS KEY SHA256, times in milliseconds. Argument: URL"""

import hashlib
import sys

import av

with av.open(sys.argv[1]) as source:
    for packet in source.demux(*source.streams.audio, *source.streams.video):
        if packet.dts is None:
            continue
        assert packet.time_base.denominator == 1000 and packet.time_base.numerator == 1, packet.time_base
        digest = hashlib.sha256(bytes(packet)).hexdigest()
        print(packet.stream.type, packet.pts, packet.dts, int(packet.is_keyframe), digest)
