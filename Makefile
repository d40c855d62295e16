# Front door for daily work; ./demo and ./check do their own set-up.
.PHONY: all build check demo lint asan fuzz bench torture cm33 firmware install clean
all build:
	cmake --preset release && cmake --build --preset release
check demo:
	./$@
lint:
	tools/dev/lint.sh
asan:
	cmake --preset asan && cmake --build --preset asan && ctest --test-dir build/asan --output-on-failure
fuzz:
	tools/dev/fuzz.sh $(SECONDS_EACH)
bench: build
	/usr/bin/python3 bench/compare.py
CYCLES ?= 1200
SEED ?= 1
torture: build
	cmake --build build --target bugs
	SALLYPORT_BUILD=build /usr/bin/python3 -B tests/faults/torture.py --cycles $(CYCLES) --seed $(SEED)
	SALLYPORT_BUILD=build /usr/bin/python3 -B tests/faults/bugs.py run
	SALLYPORT_BUILD=build /usr/bin/python3 -B tests/faults/bridge.py
	SALLYPORT_BUILD=build /usr/bin/python3 -B tests/faults/backlog.py
cm33:
	cmake --preset cm33 && cmake --build --preset cm33
firmware:
	packaging/setup.sh firmware
	for board in an521 an505 musca; do cmake --preset firmware-$$board && cmake --build --preset firmware-$$board || exit 1; done
install: build
	cmake --install build
clean:
	rm -rf build
