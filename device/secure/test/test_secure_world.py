# SPDX-License-Identifier: Apache-2.0
# Copyright The Sallyport Authors
"""The secure world on emulated boards: what it does for the non-secure one, and what it does not let it do.

Images come from build/firmware/<board> (or SP_FIRMWARE_BUILD/<board>); what is missing is built by the presets.
"""
import hashlib
import hmac
import json
import os
import pathlib
import random
import re
import socket
import struct
import subprocess
import time

import cbor2
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[3]
BUILD = pathlib.Path(os.environ.get("SP_FIRMWARE_BUILD", ROOT / "build/firmware"))
PRESETS = {"mps2-an521": "firmware-an521", "mps2-an505": "firmware-an505", "musca-b1": "firmware-musca"}
BOARDS = list(PRESETS)
EEPROM_BOARDS = ["mps2-an521", "mps2-an505"]
CUTS = int(os.environ.get("SP_POWER_CUTS", "20"))

PSK = hashlib.sha256(b"psk of dev-1").digest()  # nothing that is in memory anyway
IAK = hashlib.sha256(b"iak of dev-1").digest()
BUNDLE = {"version": 1, "device_id": "dev-1", "psk_identity": "dev-1", "psk": PSK.hex(), "iak": IAK.hex(),
          "iak_algorithm": "hmac256", "kek": "00" * 48, "binding": "tls", "suites": "profile-small",
          "role": "sensor", "group": None, "records": "any", "app_keys": []}
PARCEL, PARCEL_END = 0x6000, 0x6000 + 40 + 640
NOT_INITIALISED = 100 + 35
SECURE_FAULT = 100 + 7
FAULTS = ["read_secure_flash", "read_secure_flash_by_its_other_name", "read_veneers", "read_secure_ram",
          "read_secure_ram_by_its_other_name", "write_secure_ram", "read_protection_control",
          "branch_past_the_veneers", "branch_behind_the_gate", "branch_to_unused_gate"]
REFUSALS = ["change_isolation", "pass_secure_pointers", "count_too_many", "call_from_an_interrupt",
            "change_vectors_during_calls", "look_into_registers"]


@pytest.fixture(scope="session")
def images():
    """Folder of a board's images, all of them built."""
    for board in BOARDS:
        folder = BUILD / board
        if not (folder / "build.ninja").exists():
            subprocess.run(["cmake", "--preset", PRESETS[board], "-B", folder], cwd=ROOT, check=True)
        subprocess.run(["cmake", "--build", folder, "--target", "secure_tests"], cwd=ROOT, check=True)
    return lambda board: BUILD / board


@pytest.fixture
def storage(tmp_path):
    """The storage image of a device fresh from provisioning."""
    (tmp_path / "bundle.json").write_text(json.dumps(BUNDLE), encoding="utf-8")
    provision(tmp_path / "bundle.json", "--gateway", "10.0.2.100:8883", "--out", tmp_path / "device.img")
    return tmp_path / "device.img"


def provision(*args, check=True):
    return subprocess.run([ROOT / "tools/provision.py", *args], check=check, capture_output=True, text=True)


def storage_address():
    text = (ROOT / "device/boards/musca-b1/map.h").read_text(encoding="utf-8")
    return re.search(r"MAP_S_STORAGE\s+(0x\w+)", text)[1]


def command(folder, board, image, storage, secure="secure_test", argument=None, extra=()):
    semihosting = "enable=on,target=native" + (f",arg={argument}" if argument else "")
    line = ["qemu-system-arm", "-M", board, "-display", "none", "-monitor", "none", "-serial", "null",
            "-semihosting-config", semihosting, "-kernel", folder / f"{secure}.elf", *extra]
    if image:
        line += ["-device", f"loader,file={image}"]
    if board == "musca-b1":
        line += ["-device", f"loader,file={storage},addr={storage_address()},force-raw=on"]
    else:
        line += ["-drive", f"if=none,id=ee,file={storage},format=raw",
                 "-device", "at24c-eeprom,bus=i2c,address=0x50,rom-size=32768,drive=ee",
                 "-device", "tmp105,bus=i2c,address=0x48,id=thermometer",
                 "-device", "tmp105,bus=i2c,address=0x49,id=hygrometer"]
    return line


def run(folder, board, image, storage, **options):
    line = command(folder, board, folder / f"test_{image}.elf" if isinstance(image, str) else image, storage, **options)
    return subprocess.run(line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120, check=False)


def values(output):
    """What the image said as name=value."""
    return dict(re.findall(r"^(\w+)=(\S*)$", output, re.M))


def measurements(folder, board, image="test_services.elf", secure="secure.elf"):
    line = subprocess.run([ROOT / "tools/measure.py", board, folder / secure, folder / image],
                          check=True, capture_output=True, text=True).stdout
    identity = re.search(r"--implementation-id (\w+)", line)[1]
    return bytes.fromhex(identity), {k: bytes.fromhex(v) for k, v in re.findall(r"--component (\w+)=(\w+)", line)}


def claims_of(token, key=IAK):
    """The claims of a token whose MAC is right."""
    message = cbor2.loads(token)
    assert message.tag == 17
    protected, unprotected, payload, tag = message.value
    assert (protected, unprotected) == (b"\xa1\x01\x05", {})
    structure = cbor2.dumps(["MAC0", protected, b"", payload])
    assert hmac.compare_digest(hmac.new(key, structure, "sha256").digest(), tag)
    return cbor2.loads(payload)


def prf(secret, label, seed, length):
    out, a = b"", label + seed
    while len(out) < length:
        a = hmac.new(secret, a, "sha256").digest()
        out += hmac.new(secret, a + label + seed, "sha256").digest()
    return out[:length]


@pytest.mark.parametrize("board", BOARDS)
def test_it_boots_and_answers(images, storage, board):
    result = run(images(board), board, "hello", storage, secure="secure")
    assert (result.returncode, result.stdout) == (0, "hello from the non-secure world\n")


@pytest.mark.parametrize("board", BOARDS)
def test_services_serve_a_provisioned_device(images, storage, board):
    result = run(images(board), board, "services", storage, secure="secure")
    assert result.returncode == 0, result.stdout
    said = values(result.stdout)
    assert bytes.fromhex(said["gateway"]) == b"10.0.2.100:8883"
    assert bytes.fromhex(said["topic"]) == b"dt/dev-1/climate"
    premaster = struct.pack(">H", len(PSK)) + bytes(len(PSK)) + struct.pack(">H", len(PSK)) + PSK
    assert bytes.fromhex(said["master"]) == prf(premaster, b"master secret", b"\x5e\xed" + bytes(62), 48)


@pytest.mark.parametrize("board", BOARDS)
def test_the_token_says_what_was_booted(images, storage, board):
    folder = images(board)
    result = run(folder, board, "services", storage, secure="secure")
    claims = claims_of(bytes.fromhex(values(result.stdout)["token"]))
    identity, measured = measurements(folder, board)
    assert claims[10] == b"\xc4" * 32
    assert claims[256] == b"\x01" + hashlib.sha256(hashlib.sha256(IAK).digest()).digest()
    assert claims[2396] == identity
    assert claims[2395] == 0x3000
    assert claims[2394] < 0
    assert {c[1]: c[2] for c in claims[2399]} == measured


@pytest.mark.parametrize("board", BOARDS)
def test_a_changed_image_is_measured_as_another(images, storage, board, tmp_path):
    folder = images(board)
    content = bytearray((folder / "test_services.elf").read_bytes())
    place = content.index(b"10.0.2.100") if b"10.0.2.100" in content else content.index(b"master secret")
    content[place] ^= 0x20
    (tmp_path / "tampered.elf").write_bytes(content)
    result = run(folder, board, tmp_path / "tampered.elf", storage, secure="secure")
    claims = claims_of(bytes.fromhex(values(result.stdout)["token"]))
    _, measured = measurements(folder, board)
    said = {c[1]: c[2] for c in claims[2399]}
    assert said["SPE"] == measured["SPE"]
    assert said["NSPE"] != measured["NSPE"]
    assert said["NSPE"] == measurements(folder, board, tmp_path / "tampered.elf")[1]["NSPE"]


@pytest.mark.parametrize("board", EEPROM_BOARDS)
def test_storage_outlives_power_and_the_parcel_is_erased(images, storage, board):
    folder = images(board)
    first = values(run(folder, board, "services", storage).stdout)
    content = storage.read_bytes()
    assert content[PARCEL:PARCEL_END].strip(b"\0") in (b"", b"\xff" * len(content[PARCEL:PARCEL_END].strip(b"\0")))
    second = values(run(folder, board, "services", storage).stdout)
    assert (first["boots"], second["boots"]) == ("0", "1")
    assert first["random"] != second["random"]
    assert first["master"] == second["master"]
    seeds = [claims_of(bytes.fromhex(said["token"]))[268] for said in (first, second)]
    assert seeds[0] != seeds[1]


def test_renewing_an_image_gives_other_random_numbers(images, storage):
    folder = images("musca-b1")
    first = values(run(folder, "musca-b1", "services", storage).stdout)
    provision("--renew", storage)
    second = values(run(folder, "musca-b1", "services", storage).stdout)
    assert first["random"] != second["random"]
    assert first["master"] == second["master"]


@pytest.mark.parametrize("board", BOARDS)
@pytest.mark.parametrize("case", FAULTS)
def test_attacks_end_in_a_secure_fault(images, storage, board, case):
    result = run(images(board), board, "faults", storage, argument=case)
    assert result.returncode == SECURE_FAULT, result.stdout


@pytest.mark.parametrize("board", BOARDS)
@pytest.mark.parametrize("case", REFUSALS)
def test_attacks_are_refused(images, storage, board, case):
    result = run(images(board), board, "faults", storage, argument=case)
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize("board", EEPROM_BOARDS)
def test_the_sensor_bus_is_out_of_reach(images, storage, board):
    assert run(images(board), board, "faults", storage, argument="use_secure_i2c").returncode == 0


@pytest.mark.parametrize("board", BOARDS)
def test_the_shipped_image_resets_on_an_attack(images, storage, board):
    result = run(images(board), board, "faults", storage, secure="secure", argument="read_secure_ram",
                 extra=["-no-reboot"])
    assert (result.returncode, result.stdout) == (0, "")


@pytest.mark.parametrize("board", BOARDS)
def test_without_an_image_nothing_is_started(images, storage, board):
    folder = images(board)
    line = command(folder, board, None, storage)
    assert subprocess.run(line, timeout=60, check=False).returncode == 100 + 33


@pytest.mark.parametrize("board", BOARDS)
def test_a_pinned_secure_world_starts_that_image_only(images, storage, board):
    folder = images(board)
    assert run(folder, board, "hello", storage, secure="secure_pinned").returncode == 0
    assert run(folder, board, "services", storage, secure="secure_pinned").returncode == 100 + 33


@pytest.mark.parametrize("board", BOARDS)
def test_a_device_without_keys_makes_no_token(images, tmp_path, board):
    (tmp_path / "blank.img").write_bytes(b"\xff" * 32768)
    result = run(images(board), board, "services", tmp_path / "blank.img")
    assert result.returncode == 1
    assert "token=" not in result.stdout
    assert "FAIL random_bytes_differ" in result.stdout


@pytest.mark.parametrize("board", BOARDS)
def test_a_damaged_parcel_stops_the_device(images, storage, board):
    content = bytearray(storage.read_bytes())
    content[PARCEL + 60] ^= 1
    storage.write_bytes(content)
    assert run(images(board), board, "hello", storage).returncode == NOT_INITIALISED


@pytest.mark.parametrize("board", EEPROM_BOARDS)
def test_damaged_storage_stops_the_device(images, storage, board):
    folder = images(board)
    assert run(folder, board, "hello", storage).returncode == 0
    content = bytearray(storage.read_bytes())
    for place in (100, 3072 + 100):
        content[place] ^= 1
    storage.write_bytes(content)
    assert run(folder, board, "hello", storage).returncode == NOT_INITIALISED


def test_a_power_cut_leaves_the_old_value_or_the_new_one(images, storage, tmp_path):
    folder, board = images("mps2-an521"), "mps2-an521"
    line = command(folder, board, folder / "test_storage.elf", storage)
    safe, seed = 0, random.randrange(1 << 32)
    chance = random.Random(seed)
    for cut in range(CUTS):
        with open(tmp_path / "out", "w+", encoding="utf-8") as out, subprocess.Popen(line, stdout=out, stderr=out) as emulator:
            time.sleep(chance.uniform(0.05, 0.6))
            alive = emulator.poll() is None
            emulator.kill()
            emulator.wait()
            out.seek(0)
            text = out.read()
        assert alive, f"seed {seed} cut {cut}: it ended by itself with {emulator.returncode}: {text[-200:]}"
        started = re.findall(r"^start=(\d+)$", text, re.M)
        assert not started or safe <= int(started[0]) <= safe + 1, f"seed {seed} cut {cut}"
        stored = re.findall(r"^stored=(\d+)\n", text, re.M)
        safe = int(stored[-1]) if stored else int(started[0]) if started else safe
    assert safe > 0


def qmp(path):
    client = socket.socket(socket.AF_UNIX)
    for _ in range(100):
        try:
            client.connect(str(path))
            break
        except OSError:
            time.sleep(0.05)
    stream = client.makefile("rw", encoding="utf-8")
    stream.readline()

    def ask(name, **arguments):
        stream.write(json.dumps({"execute": name, "arguments": arguments}) + "\n")
        stream.flush()
        while True:
            answer = json.loads(stream.readline())
            if "event" not in answer:
                return answer

    ask("qmp_capabilities")
    return ask


@pytest.mark.parametrize("board", EEPROM_BOARDS)
@pytest.mark.parametrize("celsius, humidity", [(23.5, 41.0), (-12.25, 0.0), (125.0, 100.0)])
def test_a_record_is_what_the_sensor_measures(images, storage, board, celsius, humidity, tmp_path):
    folder = images(board)
    line = command(folder, board, folder / "test_services.elf", storage,
                   extra=["-S", "-qmp", f"unix:{tmp_path / 'q'},server=on,wait=off"])
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as emulator:
        ask = qmp(tmp_path / "q")
        for name, value in (("thermometer", celsius), ("hygrometer", humidity)):
            answer = ask("qom-set", path=f"/machine/peripheral/{name}", property="temperature", value=int(value * 1000))
            assert "return" in answer, answer
        ask("cont")
        said = values(emulator.communicate(timeout=60)[0])
    base, second = cbor2.loads(bytes.fromhex(said["record"]))
    assert base[-2] == "dev-1/" and (base[0], second[0]) == ("temperature", "humidity")
    assert (float(base[2]), float(second[2])) == (celsius, humidity)


def memory(ask, path, start, size):
    """What the processor sees there, once it is caught in the world that may look."""
    for _ in range(200):
        ask("stop")
        path.unlink(missing_ok=True)
        answer = ask("memsave", val=start, size=size, filename=str(path))
        ask("cont")
        if "return" in answer and any(path.read_bytes()):
            return path.read_bytes()
        time.sleep(0.01)
    raise AssertionError(f"memory at {start:x} cannot be read: {answer}")


def map_of(board):
    text = subprocess.run(["arm-none-eabi-gcc", "-E", "-dM", "-x", "c", f"-I{ROOT}",
                           ROOT / f"device/boards/{board}/map.h"], check=True, capture_output=True, text=True).stdout
    return {name: int(value, 16) for name, value in re.findall(r"#define (MAP_\w+) (0x\w+)", text)}


@pytest.mark.parametrize("board", BOARDS)
def test_secrets_are_nowhere_in_non_secure_memory(images, storage, board, tmp_path):
    folder, places = images(board), map_of(board)
    line = command(folder, board, folder / "test_services.elf", storage, secure="secure", argument="linger",
                   extra=["-qmp", f"unix:{tmp_path / 'q'},server=on,wait=off"])
    with open(tmp_path / "out", "w+", encoding="utf-8") as out, subprocess.Popen(line, stdout=out, stderr=out) as emulator:
        for _ in range(600):
            if "done=" in (tmp_path / "out").read_text(encoding="utf-8"):
                break
            time.sleep(0.05)
        ask = qmp(tmp_path / "q")
        dumps = {name: memory(ask, tmp_path / name, places[at], places[at + "_SIZE"])
                 for name, at in (("ns", "MAP_NS_RAM"), ("s", "MAP_S_RAM"))}
        emulator.kill()
    assert PSK in dumps["s"] and IAK in dumps["s"], "the search would find them"
    for secret in (PSK, IAK):
        assert secret not in dumps["ns"]
    stack = dumps["s"][:places["MAP_S_STACK_SIZE"]]
    unused = len(stack) - len(stack.lstrip(b"\xfe\x5a"))
    print(f"{board}: {len(stack) - unused} of {len(stack)} bytes of the secure stack were used")
    assert unused >= 512
    assert stack[-8:] == struct.pack("<I", 0xFEF5EDA5) * 2


UNITS = {"unit_base_bytes": set(), "unit_cbor_cbor": set(), "unit_link_link": set(),
         "unit_senml_senml": {"the_examples_of_rfc_8428_come_out_right"},  # they are files, of which a board has none
         "unit_mqtt_topic": set(), "unit_mqtt_client": set(), "unit_mqtt_client_message": set(),
         # the firmware's crypto service has no SHA-384 and SHA-512
         "unit_attest_attest": {"good_tokens_of_all_profiles_and_algorithms_are_accepted"}}


@pytest.mark.parametrize("board", BOARDS)
@pytest.mark.parametrize("unit", UNITS)
def test_unit_tests_of_the_libraries_pass_on_the_board(images, storage, board, unit):
    folder = images(board)
    result = run(folder, board, folder / f"{unit}.elf", storage, secure="secure")
    assert re.search(r"^\d+ passed, \d+ failed$", result.stdout, re.M), result.stdout
    assert set(re.findall(r"^FAIL (\w+)$", result.stdout, re.M)) == UNITS[unit], result.stdout


def tool(name, *args):
    return subprocess.run([f"arm-none-eabi-{name}", *args], check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize("board", BOARDS)
def test_the_gate_has_three_entries_and_nothing_else(images, board):
    elf, places = images(board) / "secure.elf", map_of(board)
    base = int(re.search(r"#define MAP_S_CODE +(0x\w+)",
                         (ROOT / f"device/boards/{'mps2' if 'mps2' in board else board}/map.h").read_text())[1], 16)
    gate = base + places["MAP_S_VECTORS_SIZE"]
    listing = tool("objdump", "-d", "-j", ".gnu.sgstubs", elf)
    assert re.findall(r"<(\w+)>:\n\s*(\w+):\s+e97f e97f\s+sg", listing) == [
        ("sp_psa_call_veneer", f"{gate:x}"), ("sp_psa_version_veneer", f"{gate + 8:x}"),
        ("sp_psa_framework_version_veneer", f"{gate + 16:x}")]
    content = re.findall(r"^ \w+ ((?:[0-9a-f]+ )+)", tool("objdump", "-s", "-j", ".gnu.sgstubs", elf), re.M)
    assert "".join(content).replace(" ", "").count("7fe97fe9") == 3
    assert len(re.findall(r"\ssg$", tool("objdump", "-d", elf), re.M)) == 3
    bodies = tool("objdump", "-d", elf)
    for name in ("sp_psa_call_veneer", "sp_psa_version_veneer", "sp_psa_framework_version_veneer"):
        body = re.search(rf"<__acle_se_{name}>:\n(.*?)\n\n", bodies, re.S)[1]
        assert re.search(r"\bbxns\b", body) and "msr\tAPSR" in body.replace("CPSR_f", "APSR"), body


@pytest.mark.parametrize("board", BOARDS)
def test_the_shipped_image_has_no_way_to_talk_to_a_debugger(images, board):
    listing = tool("objdump", "-d", images(board) / "secure.elf")
    assert not re.search(r"\sbkpt\s", listing)
    assert not re.search(r"<(printf|puts|fwrite|_write|malloc|sbrk)>:", listing)


def test_with_the_same_services_it_is_smaller_than_profile_small():
    subprocess.run([ROOT / "tools/footprint.py", "--check"], check=True)


def test_headers_and_manifests_agree():
    subprocess.run([ROOT / "tools/dev/manifest.py", ROOT / "device/secure/partitions/manifest_list.yaml",
                    "--check", ROOT / "device/secure/include"], check=True)


def test_provisioning_overwrites_no_device(storage):
    bundle = storage.with_name("bundle.json")
    before = storage.read_bytes()
    again = provision(bundle, "--gateway", "10.0.2.2:8883", "--out", storage, check=False)
    assert again.returncode == 1 and "--replace" in again.stderr
    assert storage.read_bytes() == before
    assert storage.stat().st_mode & 0o777 == 0o600
    provision(bundle, "--gateway", "10.0.2.2:8883", "--out", storage, "--replace")
    assert storage.read_bytes() != before


@pytest.mark.parametrize("change", [{"iak_algorithm": "hmac384"}, {"psk": "00"}, {"role": "client"}, {"version": 2},
                                    {"psk_identity": "dev-2"}, {"suites": "forward-secret"}, {"iak": "zz"}])
def test_provisioning_refuses_what_the_device_could_not_use(tmp_path, change):
    (tmp_path / "bundle.json").write_text(json.dumps({**BUNDLE, **change}), encoding="utf-8")
    result = provision(tmp_path / "bundle.json", "--gateway", "10.0.2.2:8883", "--out", tmp_path / "x", check=False)
    assert result.returncode == 1 and result.stderr.startswith("provision.py: ")
    assert "Traceback" not in result.stderr and not (tmp_path / "x").exists()


def test_provisioning_and_device_number_suites_alike():
    names = re.findall(r'^    \{"(TLS_\w+)", 0x', (ROOT / "device/port/suites.c").read_text(encoding="utf-8"), re.M)
    text = (ROOT / "tools/provision.py").read_text(encoding="utf-8")
    for name, bit in re.findall(r'"(TLS_\w+)": 1 << (\d+)', text):
        assert names[int(bit)] == name
