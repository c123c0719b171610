//! Which test shows what becomes of which hostile input.

use crate::common::table::assert_complete;

/// A hostile input or fault, and its test: of a module here, or of the file with that path.
const ROWS: &[(&str, &str)] = &[
    ("1: a version other than 3, TLS or HTTP", "handshake::another_version_is_closed"),
    ("1: a version other than 3, TLS or HTTP", "handshake::tls_and_http_on_the_rtmp_port_are_closed"),
    ("2: dribbling and silence", "handshake::silence_and_dribbling_end_at_one_total_deadline"),
    ("3: a digest offset out of range", "handshake::a_digest_that_verifies_nowhere_is_taken_for_a_simple_handshake"),
    ("4: a wrong C2", "handshake::a_wrong_c2_is_tolerated"),
    ("5: bytes before connect", "handshake::more_than_64_kib_before_connect_are_closed"),
    ("6: chunk size 0 or beyond 31 bits", "chunks::chunk_size_zero_or_beyond_31_bits_is_closed"),
    ("7: chunk size 0x7FFFFFFF", "chunks::the_largest_chunk_size_is_clamped_and_costs_no_memory"),
    ("8: chunk size 1 with a large message", "chunks::a_large_message_in_chunks_of_one_byte_arrives"),
    ("9: chunk size changed within a message", "chunks::a_chunk_size_set_mid_message_counts_for_the_remaining_bytes"),
    ("10: lengths announced on many csids", "chunks::announced_lengths_cost_no_memory_and_received_ones_are_capped"),
    ("11: more than 64 csids", "chunks::more_than_64_chunk_streams_are_closed"),
    ("12: fmt 1, 2 or 3 on an unseen csid", "chunks::a_chunk_stream_that_opens_without_a_full_header_is_closed"),
    ("12: fmt 1, 2 or 3 on an unseen csid", "chunks::librtmp_may_open_a_chunk_stream_with_fmt_1"),
    ("13: another length within a message", "chunks::another_length_in_the_midst_of_a_message_restarts_it"),
    ("14: a longer form of a csid", "chunks::both_forms_of_a_csid_name_the_same_chunk_stream"),
    ("15: Abort of an unknown csid", "chunks::aborting_an_unknown_chunk_stream_is_ignored"),
    ("16: a control body too short", "chunks::a_control_message_too_short_for_its_fields_is_closed"),
    ("17: extended timestamps left out", "chunks::extended_timestamps_may_be_absent_from_continuations"),
    ("18: timestamps that wrap, step back, leap", "timestamps::a_wrap_passes_unharmed"),
    ("18: timestamps that wrap, step back, leap", "timestamps::steps_back_and_leaps_of_2_to_the_31_never_go_backwards"),
    ("19: zeros and unknown types", "chunks::zeros_and_unassigned_types_are_closed"),
    ("20: any split", "handshake::a_session_that_arrives_byte_by_byte_is_the_same"),
    ("20: any split", "chunks::a_command_split_over_many_chunks_is_understood"),
    ("20: any split", "src/rtmp/chunk/reader_tests.rs::all_header_forms_and_csid_widths_round_trip_at_every_split"),
    ("20: any split", "src/rtmp/client/tests/mod.rs::every_split_of_what_a_client_says_means_the_same_to_the_server"),
    ("21: acknowledgement window 0 or 1", "chunks::a_tiny_acknowledgement_window_is_raised"),
    ("22: a peer that never acknowledges", "chunks::a_player_that_never_acknowledges_is_served"),
    ("23: a flood of pings", "chunks::pings_are_answered_and_a_flood_of_them_is_bounded"),
    ("24: buffer lengths 0 and 2^32 - 1", "chunks::any_buffer_length_is_taken"),
    ("25: nested and overrunning aggregates", "commands::aggregates_with_nested_or_overrunning_parts_are_bounded"),
    ("26: deeply nested AMF", "commands::deep_nesting_is_closed"),
    ("27: counts of 2^32 - 1", "commands::counts_of_2_to_the_32_cost_no_memory"),
    ("28: endless properties", "commands::endless_properties_are_closed"),
    ("28: endless properties", "commands::hostile_amf3_is_closed"),
    ("29: AMF cut at every byte", "commands::a_connect_cut_at_any_byte_is_refused_or_closed"),
    ("29: AMF cut at every byte", "commands::an_amf3_command_cut_at_any_byte_is_answered_or_closed"),
    ("30: bad UTF-8 and numbers", "commands::bad_text_and_numbers_do_no_harm"),
    ("31: references", "commands::references_are_refused"),
    ("31: references", "commands::an_amf3_list_that_holds_itself_does_no_harm"),
    ("32: no command name, app or tcUrl", "commands::a_connect_without_app_or_tc_url_is_answered_with_an_error"),
    ("33: publish or play before connect, or twice", "commands::requests_before_connect_are_answered_with_an_error"),
    (
        "33: publish or play before connect, or twice",
        "commands::a_second_request_on_a_stream_is_answered_with_an_error",
    ),
    ("34: createStream without end", "commands::message_streams_are_capped_at_8"),
    ("35: deleteStream of an unknown id", "commands::deleting_an_unknown_stream_is_ignored"),
    ("36: hostile names", "commands::hostile_names_are_refused_and_the_connection_lives"),
    ("37: a second publisher", "commands::a_second_publisher_is_refused"),
    ("37: a second publisher", "commands::a_publisher_that_leaves_in_the_midst_of_a_message_frees_its_name"),
    ("38: media nobody asked for", "commands::media_nobody_asked_for_is_dropped_and_then_closed"),
    ("39: malformed tags", "media::malformed_tags_are_dropped_and_the_publisher_goes_on"),
    ("39: malformed tags", "media::multitrack_and_mod_ex_that_overrun_are_dropped"),
    ("39: malformed tags", "media::unknown_codecs_and_silence_are_forwarded"),
    ("40: malformed parameter sets", "media::malformed_parameter_sets_pass_as_they_came"),
    (
        "41: no keyframe for an hour, and a spam of headers",
        "media::an_hour_without_a_keyframe_costs_no_more_memory_than_a_gop_may",
    ),
    (
        "41: no keyframe for an hour, and a spam of headers",
        "media::a_spam_of_sequence_headers_is_passed_once_each_and_bounded",
    ),
    (
        "51: a hostile server",
        "src/rtmp/client/tests/hostile.rs::each_silence_ends_at_its_deadline_whatever_dribbles_in",
    ),
    ("51: a hostile server", "src/rtmp/client/tests/hostile.rs::bytes_before_connect_is_answered_are_limited"),
    (
        "51: a hostile server",
        "src/rtmp/client/tests/hostile.rs::media_before_play_start_and_to_publishers_is_dropped_and_bounded",
    ),
    ("51: a hostile server", "src/rtmp/client/tests/hostile.rs::chunks_out_of_bounds_end_it"),
    ("51: a hostile server", "src/rtmp/client/tests/hostile.rs::amf_out_of_bounds_ends_it"),
    ("51: a hostile server", "src/rtmp/client/tests/hostile.rs::floods_are_answered_within_bounds"),
    (
        "51: redirects in circles",
        "src/rtmp/client/approach_tests.rs::circles_end_and_a_later_move_does_not_count_with_earlier_ones",
    ),
    ("51: redirects out of TLS", "src/rtmp/client/approach_tests.rs::no_redirect_leaves_tls_or_leads_nowhere"),
    ("a storm of connections", "descriptors::a_thousand_connections_leave_nothing_behind_on_io_uring"),
    ("a storm of connections", "descriptors::a_thousand_connections_leave_nothing_behind_on_epoll"),
    ("no descriptors left", "descriptors::without_descriptors_accept_waits_and_recovers_on_io_uring"),
    ("no descriptors left", "descriptors::without_descriptors_accept_waits_and_recovers_on_epoll"),
    ("io_uring denied", "denied_uring::a_denied_io_uring_is_said_and_epoll_serves"),
    ("io_uring denied", "denied_uring::a_denied_io_uring_that_is_insisted_on_is_one_clear_line"),
    ("the table", "rows::every_hostile_input_has_its_test_and_every_test_its_row"),
];
/// How many hostile inputs are promised to be survived.
const INPUTS: u32 = 41;

#[test]
fn every_hostile_input_has_its_test_and_every_test_its_row() {
    assert_complete("tests/hostile_inputs", ROWS);
    for number in 1..=INPUTS {
        let row = format!("{number}: ");
        assert!(ROWS.iter().any(|(what, _)| what.starts_with(&row)), "nothing tests hostile input {number}");
    }
}
