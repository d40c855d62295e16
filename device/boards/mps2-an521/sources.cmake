set(SP_BOARD_SECURE_SOURCES ${PROJECT_SOURCE_DIR}/device/boards/mps2/i2c.c
    ${PROJECT_SOURCE_DIR}/device/boards/mps2/storage.c ${PROJECT_SOURCE_DIR}/device/boards/mps2/sensor.c)
