# SPDX-License-Identifier: Apache-2.0
"""The 115 classes of attack that other brokers, TLS stacks and decoders fell to, each once: what is sent, what has to happen, which counter
says so, and the test that does it against a running gateway. Where docs/protocol.md says otherwise than the collection that this
list is made from, protocol.md stands; those lines say so. The oracle of all of them is tests/lib/canary.py and tests/lib/oracle.py: the
counter of a line is raised by the number of attempts, and no other one. `NONE`: nothing may be counted. `FILE`: what is attacked is
a file; the program that reads it says what is wrong, and nothing is lost."""
from typing import NamedTuple

T5 = "test_hostile.py::test_an_admitted_mqtt_5_client_that_breaks_a_rule_is_told_which_and_closed"
T3 = "test_hostile.py::test_an_admitted_311_client_that_breaks_a_rule_is_closed_without_a_word"
FIRST = "test_hostile.py::test_a_wrong_first_packet_is_refused_and_leaves_nothing"
CLAIMS = "test_hostile.py::test_tokens_that_do_not_hold_are_refused_by_the_right_check"
TOKENS = "test_hostile_tokens.py::test_what_is_no_token_is_refused_by_the_right_check"
PROTOCOL, REFUSED, TLS, VERDICT = "protocol_errors_total", "connects_refused_total", "tls_handshakes_failed_total", "attestations_refused_total"
CLOUD, JOURNAL, NAME, KEY = "cloud_failures_total", "journal_refused_total", "tls_unknown_identity_total", "tls_wrong_key_total"
NONE, FILE = "none", "file"


class Case(NamedTuple):
    id: str
    sent: str
    must: str
    counter: str
    tests: tuple
    chance: str  # why not all that is counted is an exact number; empty: it is


FLOOD = "what a flood at QoS 0 loses is a matter of the speed of cloud and readers: a bound; the counter here is exact"
TRIES = "how often the link is tried again is a matter of time: a bound"


def case(name, sent, must, counter, *tests, chance=""):
    return Case(name, sent, must, counter, tests, chance)


HERE, WIRE, STORE = "test_hostile.py::test_", "test_hostile_wire.py::test_", "test_hostile_store.py::test_"
CASES = [
    case("M-01", "256 MB announced, as the first packet and later", "closed, 0x95", PROTOCOL, T5, FIRST),
    case("M-02", "a length of five bytes, or of needlessly many", "0x81", PROTOCOL, T5, T3, FIRST),
    case("M-03", "length 0 in two bytes; also of properties", "0x81", PROTOCOL, T5, T3),
    case("M-04", "a string longer than its packet", "0x81", PROTOCOL, T5),
    case("M-05", "every packet cut at every byte", "0x81 or a whole packet, never more than was sent", PROTOCOL,
         HERE + "packets_cut_at_every_byte_are_never_taken_for_more_than_they_are"),
    case("M-06", "QoS 1 without a packet id", "0x81", PROTOCOL, T5, T3),
    case("M-07", "a filter without its options", "0x81", PROTOCOL, T5, T3),
    case("M-08", "SUBSCRIBE and UNSUBSCRIBE without a filter", "0x82", PROTOCOL, T5, T3),
    case("M-09", "reserved header bits; PINGREQ and DISCONNECT with a body", "0x81", PROTOCOL, T5, T3),
    case("M-10", "packet id 0", "0x81, 0x82", PROTOCOL, T5, T3),
    case("M-11", "QoS 3, DUP with QoS 0, reserved options", "0x81, 0x82", PROTOCOL, T5, T3),
    case("M-12", "an empty topic without an alias", "0x82", PROTOCOL, T5, T3),
    case("M-13", "a wildcard in a topic", "0x82, 0x90", PROTOCOL, T5, T3),
    case("M-14", "broken UTF-8, wherever a string stands", "0x81, 0x82", PROTOCOL, T5, FIRST),
    case("M-15", "topics and filters that are too long or too deep", "0x90, refused in SUBACK", PROTOCOL, T5,
         HERE + "filters_that_are_none_are_refused"),
    case("M-16", "PUBLISH and wills beneath $", "closed (3.1.1), 0x87", "messages_denied_total", T3, FIRST),
    case("M-17", "client ids with #, +, /", "0x85", REFUSED, FIRST),
    case("M-18", "an empty client id", "CONNACK 2 with Clean Session 0; else assigned", REFUSED, FIRST,
         "test_sessions.py::test_an_empty_client_id_is_assigned_the_identity"),
    case("M-19", "the client id of another device", "0x85 before anything has changed", REFUSED,
         "test_sessions.py::test_another_client_id_is_refused",
         "test_attestation.py::test_a_refused_guest_leaves_the_old_connection_alone",
         HERE + "a_name_of_another_device_changes_nothing_of_its_session"),
    case("M-20", "PUBLISH before CONNECT, a second CONNECT, anything before the verdict", "0x82, nothing kept", PROTOCOL, T5, FIRST,
         "test_attestation.py::test_anything_before_the_verdict_but_the_answer_closes"),
    case("M-21", "flags of CONNECT that contradict each other", "0x81", PROTOCOL, FIRST),
    case("M-22", "bytes behind CONNECT and PUBACK", "0x81", PROTOCOL, T3, FIRST),
    case("M-23", "other protocols and levels", "0x84, CONNACK 1, or closed", REFUSED, FIRST),
    case("M-24", "packets that only a server sends, types 0 and 15", "0x82, 0x81", PROTOCOL, T5, T3),
    case("M-25", "properties beyond their block or packet", "0x81", PROTOCOL, T5),
    case("M-26", "each property where it may not stand, unknown ones", "0x82, 0x81", PROTOCOL, T5, FIRST),
    case("M-27", "each property twice", "0x82", PROTOCOL, T5, FIRST),
    case("M-28", "thousands of user properties, huge ones", "0x97, 0x95", PROTOCOL, T5, FIRST),
    case("M-29", "topic aliases that may not be", "0x94, 0x82", PROTOCOL, T5),
    case("M-30", "Receive Maximum 0, Maximum Packet Size 0, a raised expiry", "0x82", PROTOCOL, T5, FIRST),
    case("M-31", "subscription ids that may not be", "0x82, 0xA1", PROTOCOL, T5),
    case("M-32", "one QoS 2 packet id for ever, no PUBREL", "0x93; memory flat, one message kept", PROTOCOL,
         WIRE + "a_packet_id_used_for_ever_without_a_release_is_one_message"),
    case("M-33", "QoS 2 packet ids beyond Receive Maximum, no PUBREL", "0x93", PROTOCOL,
         WIRE + "packet_ids_without_end_and_no_release_are_cut_off"),
    case("M-34", "acknowledgements of nothing", "0x82, 0x92, or nothing", PROTOCOL, T5,
         "test_sessions.py::test_a_release_of_nothing_is_answered"),
    case("M-35", "kill -9 between PUBLISH, PUBREC, PUBREL and PUBCOMP", "one copy, and the next message is no copy", NONE,
         "test_delivery.py::test_qos_2_survives_a_crash_without_a_copy_or_a_loss"),
    case("M-36", "retained messages of a device", "0x9A, nothing kept", PROTOCOL, WIRE + "a_device_retains_nothing"),
    case("M-37", "thousands of subscriptions", "0x97, and the index is as before", "subscriptions_denied_total",
         HERE + "a_thousand_subscriptions_come_and_go_without_a_trace"),
    case("M-38", "filters that are none", "0x8F, 0x80 or closed", "subscriptions_denied_total", HERE + "filters_that_are_none_are_refused"),
    case("M-39", "revoked in the middle of QoS 2", "0x98, its session ended", "revoked_closed_total",
         WIRE + "a_revoked_device_is_gone_in_the_middle_of_everything"),
    case("M-40", "keep-alive 0 and 65535", "Server Keep Alive, never unlimited", NONE, HERE + "nobody_has_an_unlimited_keep_alive"),
    case("M-41", "a line that swallows everything", "the same device takes itself over at once, 0x8E", "sessions_taken_over_total",
         WIRE + "a_device_behind_a_dead_line_takes_itself_over"),
    case("M-42", "a monitor that does not read", "closed, others never wait", "slow_readers_closed_total",
         HERE + "a_monitor_that_does_not_read_is_closed_and_holds_nobody_up", chance=FLOOD),
    case("M-43", "CONNECT in drops", "an absolute deadline", "deadline_timeouts_total",
         HERE + "a_connect_in_drops_does_not_outlive_its_deadline"),
    case("M-44", "wills that are too large, elsewhere, or a guest's", "closed, 0x87, never published", REFUSED, FIRST,
         "test_sessions.py::test_a_guest_has_no_will"),
    case("M-45", "AUTH and authentication data without a method", "0x82, 0x8C", PROTOCOL, T5, FIRST,
         "test_attestation.py::test_no_method_another_method_and_the_other_binding_are_refused_with_8c"),
    case("M-46", "a packet of one byte too many", "0x95", PROTOCOL, "test_sessions.py::test_a_packet_over_the_limit_is_refused_with_95",
         HERE + "a_packet_may_be_as_large_as_connack_says_and_no_larger"),
    case("M-47", "line ends, formats and control characters in names", "escaped in the log", "messages_denied_total",
         HERE + "what_devices_say_is_escaped_in_the_log", FIRST),
    case("M-48", "one name from eight connections at once", "nothing breaks", "sessions_taken_over_total",
         HERE + "eight_connections_that_take_each_other_over_break_nothing", chance=FLOOD),
    case("M-49", "a flood towards subscribers that come and go", "nothing breaks", "sessions_taken_over_total",
         HERE + "eight_connections_that_take_each_other_over_break_nothing", chance=FLOOD),
    case("M-50", "a cloud that says anything", "its link is reset; journal and devices never notice", CLOUD,
         STORE + "a_hostile_cloud_costs_nothing_but_its_link", STORE + "a_connack_that_cannot_be_is_a_failure", chance=TRIES),
    case("M-51", "a cloud that never acknowledges", "a new link, everything again in order", CLOUD,
         STORE + "a_cloud_that_pings_and_never_acknowledges_is_left"),
    case("M-52", "a cloud with small limits", "they hold; what cannot go is a dead letter", "journal_dead_letters_total",
         STORE + "the_limits_of_the_cloud_hold", chance=TRIES),

    case("T-01", "SSL 3 to TLS 1.1", "alert 70", TLS, HERE + "a_hello_that_will_not_do_gets_its_alert"),
    # protocol.md 1: plain PSK with AES-128 AEAD is what profile-small is for; everything else of the list is refused
    case("T-02", "suites that are not allowed", "alert 40", TLS, HERE + "a_hello_that_will_not_do_gets_its_alert",
         "test_identity.py::test_what_profile_small_does_not_have_is_refused"),
    case("T-03", "a NUL in an identity", "unknown", NAME,
         "test_identity.py::test_a_name_with_a_nul_is_not_the_name_before_it", HERE + "in_tls_13_too_a_wrong_key_looks_like_an_unknown_name"),
    case("T-04", "identities of 0 to 65535 bytes", "one alert", NAME, HERE + "identities_of_any_length_end_in_an_alert"),
    case("T-05", "unknown names and wrong keys", "the same alert", KEY,
         "test_identity.py::test_an_unknown_identity_is_refused_in_the_same_way", HERE + "in_tls_13_too_a_wrong_key_looks_like_an_unknown_name"),
    case("T-06", "a hundred wrong keys for one name", "the name is not locked out", KEY,
         WIRE + "wrong_keys_for_a_name_do_not_lock_it_out"),
    case("T-07", "names that are nearly one", "unknown, all alike", NAME, WIRE + "names_that_are_nearly_one_are_not_it"),
    case("T-08", "key files with every fault", "all or none; the line is named", FILE, WIRE + "a_key_file_is_taken_whole_or_not_at_all"),
    case("T-09", "renegotiation", "closed", "tls_bad_record_total", HERE + "renegotiation_and_floods_of_nothing_are_cut_off"),
    case("T-10", "a thousand ChangeCipherSpec", "closed", TLS, HERE + "messages_out_of_turn_end_the_handshake"),
    case("T-11", "floods of empty records, warnings, key updates", "closed", "tls_bad_record_total",
         HERE + "messages_out_of_turn_end_the_handshake", HERE + "renegotiation_and_floods_of_nothing_are_cut_off"),
    case("T-12", "a handshake in crumbs", "works", NONE, HERE + "a_handshake_in_crumbs_is_a_handshake"),
    case("T-13", "hundreds of connections left at each stage", "they go away by themselves", "deadline_timeouts_total",
         HERE + "three_hundred_connections_left_at_each_stage_go_away_by_themselves"),
    case("T-14", "messages out of turn", "an alert", TLS, HERE + "messages_out_of_turn_end_the_handshake"),
    case("T-15", "HelloRetryRequest, then another hello", "an alert", NAME, WIRE + "a_second_hello_that_is_another_ends_it"),
    case("T-16", "binders that do not fit", "an alert", NAME, HERE + "a_tls_13_hello_with_a_broken_psk_extension_is_refused"),
    case("T-17", "TLS 1.2, 1.3, 1.2, 1.3", "nothing sticks", NONE, HERE + "in_tls_13_too_a_wrong_key_looks_like_an_unknown_name"),
    case("T-18", "no extended master secret", "alert 40", TLS, HERE + "a_hello_that_will_not_do_gets_its_alert"),
    case("T-19", "early data, tickets, session ids", "a whole handshake each time", TLS, HERE + "nothing_resumes",
         HERE + "a_tls_13_hello_with_a_broken_psk_extension_is_refused"),
    case("T-20", "a mirror", "nobody takes the other role", TLS, WIRE + "who_talks_to_a_mirror_gets_nowhere"),
    case("T-21", "every bit of a handshake and a record flipped", "nobody comes in, no byte goes up", "tls_bad_record_total",
         HERE + "no_bit_of_a_handshake_may_change", HERE + "changed_handshakes_under_one_name_are_counted_once_each_too",
         HERE + "a_changed_record_is_the_end_of_its_connection"),
    case("T-22", "MQTT, HTTP, SSH in clear", "closed, one line", TLS, WIRE + "what_is_no_tls_is_closed_with_one_line"),
    case("T-23", "certificates of the cloud that are wrong", "not a word to it", CLOUD, STORE + "a_cloud_that_is_not_the_cloud_gets_no_word"),
    case("T-24", "allocation n of a handshake fails, for every n", "refused or in order, never a crash", TLS,
         STORE + "no_allocation_that_fails_lets_anybody_in"),
    case("T-25", "an identity in TLS 1.3", "known, in the log and for topics", "messages_denied_total", WIRE + "a_name_is_known_in_tls_13_too"),

    case("C-01", "nothing, prefixes, a byte more", "form, size", VERDICT, TOKENS),
    case("C-02", "other tags, none, two", "form", VERDICT, TOKENS),
    case("C-03", "arrays of 3 and 5, a map, without an end", "form", VERDICT, TOKENS),
    case("C-04", "protected headers that are none", "form, algorithm", VERDICT, TOKENS),
    case("C-05", "algorithms: missing, twice, elsewhere, others", "form, algorithm", VERDICT, TOKENS),
    case("C-06", "crit", "form", VERDICT, TOKENS),
    case("C-07", "kid: somebody else's, inside, text, twice, 4 KiB", "ignored outside (protocol.md 3.4); else form", VERDICT, TOKENS),
    case("C-08", "MACs: none, cut, long, zeros, another's", "mac, form", VERDICT, TOKENS),
    case("C-09", "payloads: elsewhere, text, empty, two", "form, claims", VERDICT, TOKENS),
    case("C-10", "strings and maps in pieces", "form, claims", VERDICT, TOKENS),
    case("C-11", "thousands of levels and tags", "form, claims", VERDICT, TOKENS),
    case("C-12", "lengths of 2^64", "form, claims", VERDICT, TOKENS),
    case("C-13", "numbers longer than need be", "tolerated (protocol.md 3.4, RFC 9783), not in the tag", VERDICT, TOKENS),
    case("C-14", "claims twice", "claims, form", VERDICT, TOKENS),
    case("C-15", "reserved heads, breaks, floats, bignums", "form, claims", VERDICT, TOKENS),
    case("C-16", "nonces: missing, of another size or type", "claims, nonce", VERDICT, CLAIMS),
    case("C-17", "a token again, here and elsewhere", "0x82, nonce", VERDICT, HERE + "a_good_token_is_good_once"),
    case("C-18", "a token of another device, of another TLS session", "mac, nonce", VERDICT,
         "test_attestation.py::test_a_token_of_another_device_is_refused_at_the_mac",
         "test_attestation.py::test_a_token_made_for_another_tls_session_is_refused",
         HERE + "a_token_of_somebody_else_or_of_another_session_is_worth_nothing"),
    case("C-19", "profiles", "profile, claims", VERDICT, CLAIMS),
    case("C-20", "lifecycles", "lifecycle, claims", VERDICT, CLAIMS, HERE + "a_lifecycle_of_all_secured_values_passes"),
    case("C-21", "software components", "software, claims", VERDICT, CLAIMS),
    case("C-22", "instance and implementation ids", "instance-id, implementation-id, claims", VERDICT, CLAIMS),
    case("C-23", "keys that are published", "the loader refuses them", FILE, "test_hostile_tokens.py::test_a_key_that_is_published_enrols_nobody"),
    case("C-24", "tokens that are too long, in crumbs, that never come", "size, ok, timeout", VERDICT,
         HERE + "a_token_too_large_or_in_crumbs", HERE + "a_token_that_never_comes_is_a_timeout"),
    case("C-25", "PUBLISH with the token and behind it", "0x82, nothing kept", "guest_out_of_turn_total",
         HERE + "publishes_behind_a_bad_token_go_nowhere", "test_attestation.py::test_what_is_sent_with_the_token_is_early_too"),
    case("C-26", "refused again and again", "0x97, no leak", VERDICT, HERE + "too_many_refused_tokens_are_turned_away_at_connect"),
    case("C-27", "another firmware in the middle of a session", "its verdict, 0x87", VERDICT,
         "test_hostile_tokens.py::test_a_firmware_that_changes_while_it_is_inside_is_put_out"),
    case("C-28", "keys dies or does not answer", "0x88, nobody in, told to come back", "keys_restarts_total",
         HERE + "keys_dies_at_every_step_of_an_attestation"),

    case("S-01", "kill -9 of each process", "nothing acknowledged is lost (tests/faults for the many)", "gate_restarts_total",
         "test_delivery.py::test_a_process_that_dies_comes_back_and_nothing_acked_is_lost",
         chance="how long it is away is a matter of time, and with it what is refused: a bound"),
    case("S-02", "syncs and writes that fail or stop halfway", "0x97, and it recovers", JOURNAL, STORE + "what_the_disk_did_not_take_is_not_acknowledged"),
    case("S-03", "a full disk", "0x97, no crash, starts again", JOURNAL, STORE + "what_the_disk_did_not_take_is_not_acknowledged"),
    case("S-04", "a journal that is torn, flipped, empty, foreign", "the end is cut, or it is refused and left alone", FILE,
         STORE + "a_damaged_journal_is_cut_or_refused_and_never_a_crash"),
    case("S-05", "a registry that breaks and vanishes", "nobody new comes in", NAME, STORE + "a_registry_that_breaks_lets_nobody_new_in"),
    case("S-06", "no file descriptors left", "accepting pauses, the rest goes on", "connections_shed_total",
         STORE + "with_no_file_descriptors_left_the_cloud_and_the_journal_go_on",
         "test_floods.py::test_short_of_descriptors_the_silent_make_room"),
    case("S-07", "a wall clock that jumps by years", "nobody is put out, nothing is lost", NONE, STORE + "a_clock_that_jumps_moves_nobody"),
    case("S-08", "looking into processes and dumps", "there is no dump, and no key where it does not belong", NONE,
         STORE + "a_process_that_ends_badly_leaves_no_dump_with_keys", "test_processes.py::test_secrets_stay_where_they_belong"),
    case("S-09", "umask 0, links, files that others can read", "0600 and 0700, or it does not start", FILE,
         STORE + "a_state_that_others_could_write_is_not_used"),
    case("S-10", "a journal of another version", "later: refused, untouched; earlier: taken over", FILE, STORE + "a_journal_of_another_version_is_kept"),
]


def report():
    """The table with what is exact in it: `python3 -m tests.hostile_cases`."""
    for found in CASES:
        print(f"{found.id}  {found.sent}: {found.must}; {found.counter}, {found.chance or 'exact'}")
    print(f"{sum(not found.chance for found in CASES)} of {len(CASES)} are exact")


if __name__ == "__main__":
    report()
