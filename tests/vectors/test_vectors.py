# SPDX-License-Identifier: Apache-2.0
# Copyright The Sallyport Authors
"""`sallyport token verify` and `show` against every token in this folder. SALLYPORT_BUILD names the build folder."""

import json
import os
import pathlib
import subprocess

import pytest

HERE = pathlib.Path(__file__).resolve().parent
SALLYPORT = pathlib.Path(os.environ.get("SALLYPORT_BUILD", HERE.parents[1] / "build")) / "bin" / "sallyport"
ALGORITHMS = {5: "hmac256", 6: "hmac384", 7: "hmac512"}
# Which check refuses which token; what is not named here is refused by a rule of its own test below.
REFUSED_BY = {
    "iot1-no-sw": "software",
    "tfm2023-slc-unknown": "lifecycle",
    "tfm2023-slc-provisioning": "lifecycle",
    "tfm2023-slc-decommissioned": "lifecycle",
    "tfm2023-client0": "client-id",
    "neg-bitflip-mac": "mac",
    "neg-shortcircuit": "mac",
    "neg-tag61": "form",
    "neg-trailing": "form",
    "neg-alg4-trunc": "algorithm",
    "neg-no-alg": "form",
    "neg-indef-map": "form",
    "neg-mixed-ns": "claims",
    "neg-nonce-array": "claims",
    "neg-wrong-ueid": "instance-id",
    "neg-unknown-profile": "profile",
    "neg-empty-comps": "claims",
    "neg-deep": "form",
    "tfm222_psa2opt-key2-lcs0x2000__n32_a": "lifecycle",
    "tfm222_psa2opt-key2-lcs0x2000__n64": "lifecycle",
}


def vectors():
    for folder in ("tokens", "tfm"):
        for vector in json.loads((HERE / folder / "manifest.json").read_text()):
            vector["path"] = HERE / folder / vector["file"]
            yield vector


def named(*verdicts):
    return [pytest.param(v, id=v["name"]) for v in vectors() if not verdicts or v["expect"] in verdicts]


def token(*words, stdin=None):
    return subprocess.run([SALLYPORT, "token", *words], input=stdin, capture_output=True, timeout=60)


def verify(vector, *more, nonce=None):
    return token(
        "verify", "--key-hex", vector["key_hex"], "--nonce-hex", nonce or vector["nonce_hex"],
        "--algorithm", ALGORITHMS.get(vector["alg"], "hmac256"), "--allow-development-key", *more, vector["path"])


def refused_by(result):
    assert result.returncode == 1, result.stderr
    assert result.stdout == b""
    word, check, _ = result.stderr.decode().split(": ", 2)
    assert word == "refused"
    return check


@pytest.mark.parametrize("vector", named("accept"))
def test_good_tokens_are_accepted(vector):
    assert verify(vector).returncode == 0


@pytest.mark.parametrize("vector", named("policy", "reject"))
def test_bad_tokens_are_refused_by_their_check(vector):
    assert refused_by(verify(vector)) == REFUSED_BY[vector["name"]]


@pytest.mark.parametrize("vector", named("policy"))
def test_policy_may_allow_what_is_authentic(vector):
    assert verify(vector, "--allow-no-software").returncode == 0


@pytest.mark.parametrize("vector", named("accept"))
def test_another_challenge_is_refused(vector):
    nonce = bytes.fromhex(vector["nonce_hex"])
    other = nonce[:-1] + bytes([nonce[-1] ^ 1])
    assert refused_by(verify(vector, nonce=other.hex())) == "nonce"
    assert refused_by(verify(vector, nonce=nonce[:-1].hex())) == "nonce"


@pytest.mark.parametrize("vector", named("accept"))
def test_another_key_is_refused(vector):
    key = bytearray.fromhex(vector["key_hex"])
    key[0] ^= 1
    assert refused_by(verify(dict(vector, key_hex=key.hex()))) == "mac"


@pytest.mark.parametrize("vector", [v for v in named("accept") if v.values[0]["key_hex"].startswith("a9b454b2")])
def test_tfms_dummy_key_is_refused_unless_allowed(vector):
    result = token("verify", "--key-hex", vector["key_hex"], "--nonce-hex", vector["nonce_hex"], vector["path"])
    assert refused_by(result) == "key"


@pytest.mark.parametrize("vector", named("accept"))
def test_another_algorithm_is_refused(vector):
    for number in set(ALGORITHMS) - {vector["alg"]}:
        assert refused_by(verify(vector, "--algorithm", ALGORITHMS[number])) == "algorithm"


def label(claims, old, new):
    return claims.get(old, claims.get(new))


@pytest.mark.parametrize("vector", [v for v in named() if "claims" in v.values[0]])
def test_claims_of_real_tokens_are_shown_as_they_are(vector):
    want = vector["claims"]
    for words in (("show", "--json"),
                  ("verify", "--json", "--key-hex", vector["key_hex"], "--nonce-hex", vector["nonce_hex"], "--algorithm",
                   ALGORITHMS[vector["alg"]], "--allow-development-key")):
        result = token(*words, vector["path"])
        if vector["expect"] == "reject" and words[0] == "verify":
            continue
        have = json.loads(result.stdout)
        assert have["nonce"] == label(want, "-75008", "10") == vector["nonce_hex"]
        assert have["instance_id"] == label(want, "-75009", "256")
        assert have["implementation_id"] == label(want, "-75003", "2396")
        assert have["client_id"] == label(want, "-75001", "2394")
        assert have["lifecycle"] == label(want, "-75002", "2395")
        assert have["boot_seed"] == want.get("-75004", want.get("268", want.get("2397")))
        assert have["profile"] == label(want, "-75000", "265")
        assert have["verification_service"] == label(want, "-75010", "2400")
        assert have["certification_reference"] == label(want, "-75005", "2398")
        components = label(want, "-75006", "2399")
        assert len(have["software_components"]) == len(components)
        for shown, said in zip(have["software_components"], components):
            assert shown == {"type": said["1"], "value": said["2"], "signer_id": said["5"], "version": said["4"],
                             "description": said["6"]}


RFC_KEY = HERE / "rfc9783" / "tfm-hs-iak.bin"
RFC_MAC0 = HERE / "rfc9783" / "psa-mac0.cbor"


def test_rfc_9783s_token_is_authentic_but_not_from_the_non_secure_world():
    words = ("verify", "--key-file", RFC_KEY, "--nonce-hex", "01" * 32)
    assert refused_by(token(*words, RFC_MAC0)) == "key"
    assert refused_by(token(*words, "--allow-development-key", RFC_MAC0)) == "client-id"
    assert refused_by(token("verify", "--key-file", RFC_KEY, "--nonce-hex", "02" * 32, "--allow-development-key",
                            RFC_MAC0)) == "nonce"


def test_rfc_9783s_token_is_shown():
    claims = json.loads(token("show", "--json", RFC_MAC0).stdout)
    assert claims["client_id"] == 2147483647
    assert claims["lifecycle_name"] == "secured"
    assert claims["boot_seed"] == "00" * 8
    assert claims["software_components"] == [{"type": "PRoT", "value": "03" * 32, "signer_id": "04" * 32,
                                              "version": None, "description": None}]


def test_a_signed_token_has_not_the_form():
    path = HERE / "rfc9783" / "psa-sign1.cbor"
    assert refused_by(token("show", path)) == "form"
    assert refused_by(token("verify", "--key-file", RFC_KEY, "--nonce-hex", "01" * 32, path)) == "form"


@pytest.mark.parametrize("path", [pytest.param(p, id=p.stem) for p in sorted((HERE / "cose-wg").glob("*.cbor"))])
def test_the_working_groups_messages_are_no_tokens(path):
    key = path.with_suffix("").with_suffix(".key.hex")
    result = token("verify", "--key-file", key, "--nonce-hex", "00" * 32, "--allow-development-key", path)
    right_mac = path.stem.endswith(("HMac-enc-01", "HMac-01"))
    check = refused_by(result)
    assert check == "form" if right_mac else check in ("form", "algorithm", "mac")


def make(key, *more):
    result = token("make", "--key-hex", key, "--nonce-hex", "55" * 32, *more)
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.parametrize("algorithm", ["hmac256", "hmac384", "hmac512"])
@pytest.mark.parametrize("profile", ["iot-1", "psa-2.0.0", "rfc9783"])
def test_made_tokens_are_accepted(profile, algorithm, tmp_path):
    key = "c0ffee" * 16
    made = make(key, "--profile", profile, "--algorithm", algorithm, "--component",
                f"SPE={'11' * 32},signer={'22' * 32},version=1.2", "--component", f"NSPE={'33' * 48},signer={'22' * 32}")
    path = tmp_path / "token.cbor"
    path.write_bytes(made)
    words = ("verify", "--key-hex", key, "--nonce-hex", "55" * 32, "--algorithm", algorithm)
    assert token(*words, path).returncode == 0
    assert token(*words, "-", stdin=made).returncode == 0
    assert token(*words, "--hex", "-", stdin=made.hex().encode() + b"\n").returncode == 0
    claims = json.loads(token("show", "--json", path).stdout)
    assert [c["type"] for c in claims["software_components"]] == ["SPE", "NSPE"]
    assert claims["software_components"][0]["version"] == "1.2"


@pytest.mark.parametrize("vector", [v for v in named() if "claims" in v.values[0]])
def test_made_tokens_are_those_of_real_tfm_byte_for_byte(vector):
    """But for the description, which make leaves out."""
    import cbor2

    claims = vector["claims"]
    profile = {"PSA_IOT_PROFILE_1": "iot-1", "http://arm.com/psa/2.0.0": "psa-2.0.0"}.get(
        label(claims, "-75000", "265"), "rfc9783")
    words = ["--profile", profile, "--algorithm", ALGORITHMS[vector["alg"]], "--nonce-hex", vector["nonce_hex"],
             "--implementation-id", label(claims, "-75003", "2396"), "--lifecycle", str(label(claims, "-75002", "2395")),
             "--client-id", str(label(claims, "-75001", "2394")),
             "--boot-seed", claims.get("-75004", claims.get("268", claims.get("2397")))]
    for option, old, new in (("--verification-service", "-75010", "2400"), ("--certification-reference", "-75005", "2398")):
        if label(claims, old, new):
            words += [option, label(claims, old, new)]
    for component in label(claims, "-75006", "2399"):
        words += ["--component", f"{component['1']}={component['2']},signer={component['5']},version={component['4']}"]
    made = cbor2.loads(token("make", "--key-hex", vector["key_hex"], *words).stdout)
    real = cbor2.loads(vector["path"].read_bytes())
    want = cbor2.loads(real.value[2])
    for component in want.get(-75006, want.get(2399)):
        del component[6]
    assert made.tag == 17 and made.value[:2] == real.value[:2]
    assert made.value[2] == cbor2.dumps(want)


def test_made_lies_are_refused():
    key = "c0ffee" * 16
    component = ("--component", f"NSPE={'33' * 32},signer={'22' * 32}")
    verify_words = ("verify", "--key-hex", key, "--nonce-hex", "55" * 32)

    def check(*more, also=()):
        return refused_by(token(*verify_words, *also, "-", stdin=make(key, *component, *more)))

    assert check("--client-id", "3002") == "client-id"
    assert check("--lifecycle", "debug") == "lifecycle"
    assert check("--lifecycle", "0x3100") == "lifecycle"
    assert check("--ueid-hex", "01" + "00" * 32) == "instance-id"
    assert check(also=("--ueid-hex", "01" + "00" * 32)) == "instance-id"
    debug = make(key, *component, "--lifecycle", "0x40ff")
    assert token(*verify_words, "--lifecycle", "secured,debug", "-", stdin=debug).returncode == 0
    other = make(key, *component, "--ueid-hex", "01" + "00" * 32)
    assert token(*verify_words, "--any-ueid", "-", stdin=other).returncode == 0
    assert token(*verify_words, "--ueid-hex", "01" + "00" * 32, "-", stdin=other).returncode == 0


def test_keys_come_from_files_in_raw_and_in_hex(tmp_path):
    raw = bytes([0, 10, 32, 13]) + bytes(range(100, 128))
    made = make(raw.hex(), "--component", f"NSPE={'33' * 32},signer={'22' * 32}")
    path = tmp_path / "token.cbor"
    path.write_bytes(made)
    for content in (raw, raw.hex().encode(), raw.hex().upper().encode() + b"\r\n"):
        key = tmp_path / "key"
        key.write_bytes(content)
        assert token("verify", "--key-file", key, "--nonce-hex", "55" * 32, path).returncode == 0
        assert token("verify", "--key-file", "-", "--nonce-hex", "55" * 32, path, stdin=content).returncode == 0
    (tmp_path / "key").write_bytes(raw + b"\n")
    assert token("verify", "--key-file", tmp_path / "key", "--nonce-hex", "55" * 32, path).returncode == 1


@pytest.mark.parametrize("words", [
    (), ("nonsense",), ("verify",), ("verify", "x"), ("verify", "--key-hex", "00" * 32, "x"),
    ("verify", "--nonce-hex", "00" * 32, "x"), ("verify", "--key-hex", "0g", "--nonce-hex", "00" * 32, "x"),
    ("verify", "--key-hex", "00" * 32, "--nonce-hex", "zz", "x"),
    ("verify", "--key-hex", "00" * 32, "--nonce-hex", "00" * 32),
    ("verify", "--key-hex", "00" * 32, "--nonce-hex", "00" * 32, "x", "y"),
    ("verify", "--key-hex", "00" * 32, "--key-file", "x", "--nonce-hex", "00" * 32, "x"),
    ("verify", "--key-file", "-", "--nonce-hex", "00" * 32, "-"),
    ("verify", "--key-hex", "00" * 32, "--nonce-hex", "00" * 32, "--algorithm", "md5", "x"),
    ("verify", "--key-hex", "00" * 32, "--nonce-hex", "00" * 32, "--lifecycle", "any", "x"),
    ("verify", "--key-hex", "00" * 8, "--nonce-hex", "00" * 32, "x"),
    ("show",), ("show", "--nonsense", "x"), ("make", "--key-hex", "11" * 32, "--nonce-hex", "00" * 32),
    ("make", "--key-hex", "11" * 32, "--nonce-hex", "00" * 31, "--component", "A=" + "00" * 32 + ",signer=" + "00" * 32),
    ("make", "--key-hex", "11" * 32, "--nonce-hex", "00" * 32, "--component", "A=" + "00" * 32),
    ("make", "--key-hex", "11" * 32, "--nonce-hex", "00" * 32, "--no-software"),
])
def test_wrong_usage_is_exit_2(words):
    assert token(*words).returncode == 2


def test_a_missing_file_is_a_failure_with_a_reason(tmp_path):
    result = token("show", tmp_path / "none")
    assert result.returncode == 1 and b"No such file" in result.stderr


def test_what_is_too_long_or_empty_is_refused_by_size():
    words = ("verify", "--key-hex", "11" * 32, "--nonce-hex", "00" * 32, "-")
    assert refused_by(token(*words, stdin=b"")) == "size"
    assert refused_by(token(*words, stdin=b"\xd1" * 4097)) == "size"
    assert refused_by(token(*words, stdin=b"\xd1" * 100000)) == "size"
    assert refused_by(token(*words, stdin=b"\xd1" * 4096)) == "form"


SENML = ["bs", "bv", "bu", "bt", "bn", "bver", "n", "u", "v", "vs", "vb", "s", "t", "ut", "vd"]  # labels -6 to 8
ACCEPTED = 1800000000.123


def senml_from_cbor(path):
    import base64

    import cbor2
    pack = [{SENML[label + 6]: value for label, value in record.items()} for record in cbor2.loads(path.read_bytes())]
    for record in pack:
        if "vd" in record:
            record["vd"] = base64.urlsafe_b64encode(record["vd"]).decode().rstrip("=")
    return pack


def resolve(pack):
    """RFC 8428, 4.6, with the time of acceptance where there is none."""
    base, out = {}, []
    for record in pack:
        base.update({label: value for label, value in record.items() if label in ("bn", "bt", "bu", "bv")})
        value = next(record[label] for label in ("v", "vs", "vb", "vd") if label in record)
        known = "bt" in base or "t" in record
        out.append((base.get("bn", "") + record.get("n", ""), record.get("u", base.get("bu")) if "v" in record else None,
                    value + base.get("bv", 0) if "v" in record else value,
                    round(base.get("bt", 0) + record.get("t", 0), 3) if known else ACCEPTED))
    return out


@pytest.mark.parametrize("example", [pytest.param(e, id=e["name"]) for e in json.loads((HERE / "rfc8428/manifest.json").read_text())])
def test_the_examples_of_rfc_8428_are_what_they_say(example):
    """libs/senml is held against these files; this holds the files against the examples."""
    path = HERE / "rfc8428" / f"{example['name']}.cbor"
    assert senml_from_cbor(path) == example["pack"]
    written = path.with_suffix(".json")
    assert written.exists() == (example["expect"] == "accept")
    if written.exists():
        assert resolve(json.loads(written.read_text())) == resolve(example["pack"])


def test_help_teaches():
    for words in (("--help",), ("verify", "--help"), ("make", "--help")):
        result = token(*words)
        assert result.returncode == 0 and b"Examples:" in result.stdout
