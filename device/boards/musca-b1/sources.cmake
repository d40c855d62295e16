set(SP_BOARD_SECURE_SOURCES ${PROJECT_SOURCE_DIR}/device/boards/musca-b1/storage.c
    ${PROJECT_SOURCE_DIR}/device/boards/musca-b1/sensor.c)
