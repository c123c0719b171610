//! Which test shows which rule.

use crate::common::table::{assert_complete, assert_documented};

/// A rule, and its test: of a module here, or of the file with that path.
pub const RULES: &[(&str, &str)] = &[
    // Handshake.
    ("C0 and S0 are version 3, 6 is RTMPE", "tests/hostile_inputs/handshake.rs::another_version_is_closed"),
    ("S1 is a time, zeros and noise; S2 echoes C1", "handshake::s1_is_time_zeros_and_noise_and_s2_echoes_c1"),
    ("digest, scheme 0 then 1", "src/rtmp/handshake/tests.rs::every_form_is_answered_in_kind_at_every_split"),
    (
        "no digest verifies: simple",
        "tests/hostile_inputs/handshake.rs::a_digest_that_verifies_nowhere_is_taken_for_a_simple_handshake",
    ),
    ("S0, S1 and S2 in one write", "handshake::s0_s1_and_s2_come_at_once_and_not_before_c1_is_whole"),
    ("a wrong C2 is tolerated", "tests/hostile_inputs/handshake.rs::a_wrong_c2_is_tolerated"),
    ("C0, C1, C2 and connect in one segment", "handshake::c0_c1_c2_and_connect_may_come_in_one_segment"),
    // Chunk layer.
    ("csids of one, two and three bytes", "chunks::basic_headers_have_one_two_or_three_bytes"),
    (
        "longer forms name the same csid",
        "tests/hostile_inputs/chunks.rs::both_forms_of_a_csid_name_the_same_chunk_stream",
    ),
    ("message stream ids are little endian", "chunks::message_stream_ids_are_little_endian"),
    ("fmt 1 and 2 carry deltas, fmt 3 repeats them", "chunks::fmt_1_2_and_3_count_from_the_message_before"),
    ("a csid may begin with fmt 1", "tests/hostile_inputs/chunks.rs::librtmp_may_open_a_chunk_stream_with_fmt_1"),
    (
        "extended timestamps, on every chunk we write",
        "chunks::extended_timestamps_begin_at_0xffffff_and_stand_on_every_chunk",
    ),
    ("extended deltas", "chunks::a_delta_may_be_extended"),
    (
        "extended timestamps left out on fmt 3",
        "tests/hostile_inputs/chunks.rs::extended_timestamps_may_be_absent_from_continuations",
    ),
    ("Set Chunk Size holds for its sender's direction", "chunks::set_chunk_size_is_for_the_direction_of_its_sender"),
    (
        "Set Chunk Size holds for the rest of a message in flight",
        "tests/hostile_inputs/chunks.rs::a_chunk_size_set_mid_message_counts_for_the_remaining_bytes",
    ),
    ("Set Chunk Size before connect", "tests/transcripts/publishers.rs::obs_is_served"),
    (
        "chunk sizes are clamped",
        "tests/hostile_inputs/chunks.rs::the_largest_chunk_size_is_clamped_and_costs_no_memory",
    ),
    (
        "memory grows as bytes arrive",
        "tests/hostile_inputs/chunks.rs::announced_lengths_cost_no_memory_and_received_ones_are_capped",
    ),
    ("Abort drops what was begun", "chunks::abort_drops_what_was_begun"),
    ("Abort is never sent", "chunks::abort_is_never_sent"),
    ("bytes are acknowledged without being asked", "chunks::bytes_are_acknowledged_though_no_window_was_announced"),
    ("acknowledgements count modulo 2^32", "src/rtmp/control.rs::acknowledgements_wrap_at_two_to_the_32"),
    ("a peer that never acknowledges", "tests/hostile_inputs/chunks.rs::a_player_that_never_acknowledges_is_served"),
    ("Set Peer Bandwidth of each limit type", "chunks::a_bandwidth_of_any_limit_type_is_taken"),
    ("user control events", "chunks::user_control_events_of_any_kind_are_taken"),
    ("pings are answered", "tests/hostile_inputs/chunks.rs::pings_are_answered_and_a_flood_of_them_is_bounded"),
    ("control goes on csid 2 and message stream 0", "chunks::control_is_sent_on_csid_2_and_stream_0"),
    ("control on another csid", "chunks::control_on_another_csid_is_tolerated"),
    // Commands.
    ("the publishers' order", "tests/transcripts/publishers.rs::ffmpeg_is_served"),
    ("the end of a publish", "commands::a_publish_ends_by_command_or_by_a_fin"),
    ("the reply to connect", "commands::connect_is_answered_with_window_bandwidth_chunk_size_and_success"),
    ("objectEncoding is echoed, 0 when absent", "commands::the_object_encoding_is_echoed"),
    ("the reply to publish", "commands::publish_is_answered_with_on_fc_publish_and_start"),
    ("the reply to play", "commands::play_is_answered_in_the_order_players_expect"),
    ("what players send", "commands::players_may_send_all_their_commands"),
    ("calls that get a _result", "commands::calls_are_answered_with_a_result"),
    ("fatal codes", "src/rtmp/server/tests/hostile.rs::the_hosts_refusals_have_the_codes_clients_know"),
    (
        "the end is withheld while a publisher may come back",
        "commands::the_end_is_withheld_while_the_publisher_may_come_back",
    ),
    (
        "type 17 is AMF0 behind a zero byte, 0x11 switches",
        "src/rtmp/command.rs::amf3_commands_are_amf0_behind_one_byte",
    ),
    (
        "AMF3 data and commands",
        "tests/transcripts/publishers.rs::flash_with_amf3_is_served_and_its_metadata_is_readable",
    ),
    ("shared objects", "commands::shared_objects_are_ignored"),
    ("aggregates are rebased", "commands::parts_of_an_aggregate_are_rebased_onto_its_timestamp"),
    ("queries are credentials, not identity", "commands::queries_of_app_tc_url_and_name_are_no_identity"),
    ("parameters of Adobe's authentication", "commands::adobes_credentials_are_no_identity"),
    // Enhanced RTMP v2.
    ("video packet types and FourCCs", "enhanced::every_video_packet_of_every_four_cc_passes"),
    ("audio packet types and FourCCs", "enhanced::every_audio_packet_of_every_four_cc_passes"),
    ("what a video tag is", "src/media/tag_tests.rs::video_tags_have_their_roles_and_tracks"),
    ("what an audio tag is", "src/media/tag_tests.rs::audio_tags_have_their_roles_and_tracks"),
    ("command frames", "enhanced::command_frames_pass_and_are_no_place_to_join"),
    ("silence", "tests/hostile_inputs/media.rs::unknown_codecs_and_silence_are_forwarded"),
    ("ModEx", "enhanced::mod_ex_passes_and_is_looked_through"),
    ("Multitrack in its three forms", "enhanced::multitrack_is_whole_for_who_can_take_it_and_track_0_for_others"),
    ("a real file of several tracks", "tests/multitrack.rs::players_get_their_tracks"),
    ("capabilities are answered", "enhanced::capabilities_are_answered"),
    (
        "who says nothing of it gets a plain reply",
        "src/rtmp/server/tests/sound.rs::a_client_without_enhanced_rtmp_gets_a_plain_reply",
    ),
    ("ReconnectRequest", "tests/reconnect.rs::a_publisher_and_its_players_move_to_another_server_without_loss"),
    (
        "ReconnectRequest, as a client",
        "src/rtmp/client/tests/mod.rs::a_client_that_is_asked_to_reconnect_hears_where_and_is_served_on",
    ),
    (
        "Adobe's authentication, as a client",
        "src/rtmp/client/approach_tests.rs::a_server_that_asks_is_told_who_then_answered_then_taken_at_its_word",
    ),
    (
        "redirects, as a client",
        "src/rtmp/client/approach_tests.rs::redirects_are_followed_to_the_app_and_stream_they_name",
    ),
    ("tcUrl may be relative", "src/rtmp/url.rs::references_are_resolved_as_rfc_3986_says"),
    ("colorInfo", "enhanced::color_info_is_kept_and_each_replaces_the_last"),
    ("FourCCs and tracks in onMetaData", "enhanced::metadata_with_four_ccs_and_tracks_passes"),
    // What a relay does.
    ("unknown codecs and reserved types pass", "relay::what_is_yet_to_be_assigned_passes"),
    ("the cache is per kind and track", "relay::a_joiner_gets_the_headers_of_every_track"),
    ("a GOP starts at coded frames of the default track", "relay::players_join_at_a_keyframe_of_the_default_track"),
    ("avc1 and mp4a are AVC and AAC", "relay::headers_by_four_cc_and_legacy_ones_replace_each_other"),
    ("never rejected for silence", "relay::a_publisher_that_announces_nothing_may_send_anything"),
    ("upstream, metadata gets its envelope back", "src/rtmp/client/tests/mod.rs::a_client_publishes_to_the_server"),
    (
        "capabilities are repeated upstream",
        "src/rtmp/client/tests/mod.rs::capabilities_reach_the_next_server_as_the_publisher_said_them",
    ),
    // What real peers do.
    ("a second publisher", "tests/hostile_inputs/commands.rs::a_second_publisher_is_refused"),
    (
        "a publisher that is gone without a word",
        "src/shard/tests/publishing.rs::a_publisher_that_falls_silent_is_let_go",
    ),
    ("what players send is drained", "real_peers::what_a_player_sends_is_drained"),
    ("slashes and queries anywhere", "real_peers::slashes_and_queries_may_stand_anywhere"),
    ("headers on every keyframe", "real_peers::repeated_headers_are_left_out_and_changed_ones_pass"),
    ("only onMetaData is kept", "tests/data_messages.rs::everything_else_passes_in_order_and_is_kept_for_nobody"),
    (
        "@setDataFrame is for servers",
        "tests/data_messages.rs::metadata_is_stripped_of_its_envelope_and_kept_for_those_who_join",
    ),
    ("timestamps past 2^32", "tests/hostile_inputs/timestamps.rs::a_wrap_passes_unharmed"),
    ("timestamps past 2^31", "real_peers::timestamps_pass_2_to_the_31"),
    ("encoders restart", "tests/timestamps.rs::a_restarted_encoder_goes_on_with_its_distances"),
    (
        "another length within a message",
        "tests/hostile_inputs/chunks.rs::another_length_in_the_midst_of_a_message_restarts_it",
    ),
    ("the chunk size is announced once, before media", "chunks::set_chunk_size_is_for_the_direction_of_its_sender"),
    ("onMetaData comes first and at 0", "commands::play_is_answered_in_the_order_players_expect"),
    ("the last messages reach the players", "real_peers::the_last_messages_before_a_fin_reach_the_players"),
];

/// The table's own rule.
#[test]
fn every_rule_has_its_test_and_every_test_its_rule() {
    let of_this_file = ("the table is complete", "rules::every_rule_has_its_test_and_every_test_its_rule");
    let documented = ("tests name their sources", "rules::every_test_says_the_source_of_its_rule");
    assert_complete("tests/conformance", &[RULES, &[of_this_file, documented]].concat());
}

/// As all others here do.
#[test]
fn every_test_says_the_source_of_its_rule() {
    assert_documented("tests/conformance");
}
