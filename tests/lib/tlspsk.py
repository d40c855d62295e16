# SPDX-License-Identifier: Apache-2.0
"""A TLS-PSK client for tests: GnuTLS through ctypes, with raw identities, any suite, and the exporter."""
import ctypes
import ctypes.util
import errno
import select
import socket

_lib = ctypes.CDLL(ctypes.util.find_library("gnutls") or "libgnutls.so.30")
_lib.gnutls_record_recv.restype = ctypes.c_ssize_t
_lib.gnutls_record_send.restype = ctypes.c_ssize_t
_lib.gnutls_strerror.restype = ctypes.c_char_p
_lib.gnutls_transport_set_int2.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_int]
_lib.gnutls_record_send.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t]
_lib.gnutls_record_recv.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t]

CLIENT, CRD_PSK, KEY_RAW, SHUT_WR = 1 << 1, 4, 0, 1
E_AGAIN, E_INTERRUPTED, E_FATAL_ALERT, E_WARNING_ALERT = -28, -52, -12, -16

SUITE = "NONE:+VERS-TLS1.2:+COMP-NULL:+SIGN-ALL:+GROUP-ALL:"
CCM8 = SUITE + "+PSK:+AES-128-CCM-8:+AEAD"
GCM = SUITE + "+PSK:+AES-128-GCM:+AEAD"


class _Datum(ctypes.Structure):
    _fields_ = [("data", ctypes.c_char_p), ("size", ctypes.c_uint)]


class TlsError(Exception):
    """The handshake or the session failed; `alert` is the number the server sent, or None."""

    def __init__(self, code, alert):
        super().__init__(f"{_lib.gnutls_strerror(code).decode()} (alert {alert})")
        self.code, self.alert = code, alert


class TlsPsk:
    """A connected TLS-PSK session; reads wait at most `timeout` seconds."""

    def __init__(self, port, identity, psk, priority=CCM8, timeout=10.0, host="127.0.0.1", source="127.0.0.1"):
        self.timeout = timeout
        self.sock = socket.create_connection((host, port), timeout, (source, 0))
        self.sock.setblocking(False)
        self._session, self._credentials = ctypes.c_void_p(), ctypes.c_void_p()
        _lib.gnutls_init(ctypes.byref(self._session), CLIENT | (1 << 3))
        pointer = ctypes.c_char_p()
        code = _lib.gnutls_priority_set_direct(self._session, priority.encode(), ctypes.byref(pointer))
        if code != 0:
            raise ValueError(f"{priority}: {_lib.gnutls_strerror(code).decode()}")
        _lib.gnutls_psk_allocate_client_credentials(ctypes.byref(self._credentials))
        self._keep = (identity, psk)
        _lib.gnutls_psk_set_client_credentials2(self._credentials, ctypes.byref(_Datum(identity, len(identity))),
                                                ctypes.byref(_Datum(psk, len(psk))), KEY_RAW)
        _lib.gnutls_credentials_set(self._session, CRD_PSK, self._credentials)
        _lib.gnutls_transport_set_int2(self._session, self.sock.fileno(), self.sock.fileno())
        try:
            self._repeat(lambda: _lib.gnutls_handshake(self._session))
        except BaseException:
            self.sock.close()
            raise

    def _repeat(self, call):
        while True:
            code = call()
            if code >= 0:
                return code
            if code == E_WARNING_ALERT:
                continue
            if code not in (E_AGAIN, E_INTERRUPTED):
                alert = _lib.gnutls_alert_get(self._session) if code == E_FATAL_ALERT else None
                raise TlsError(code, alert)
            writing = _lib.gnutls_record_get_direction(self._session) == 1
            poll = select.poll()  # select() knows descriptors up to 1023 only
            poll.register(self.sock, select.POLLOUT if writing else select.POLLIN)
            if not poll.poll(self.timeout * 1000):
                raise TimeoutError("nothing came")

    def send(self, data):
        while data:
            data = data[self._repeat(lambda: _lib.gnutls_record_send(self._session, data, len(data))):]

    def recv(self, cap=65536):
        """Some bytes; b"" when the server has closed."""
        buffer = ctypes.create_string_buffer(cap)
        try:
            got = self._repeat(lambda: _lib.gnutls_record_recv(self._session, buffer, cap))
        except TlsError as error:
            if error.code in (E_FATAL_ALERT, -110, -54, -10):  # alert, premature end, pull or invalid session
                return b""
            raise
        except OSError as error:
            if error.errno in (errno.ECONNRESET, errno.EPIPE):
                return b""
            raise
        return buffer.raw[:got]

    def exporter(self):
        """RFC 9266: 32 bytes, the context present and empty."""
        out = ctypes.create_string_buffer(32)
        label = b"EXPORTER-Channel-Binding"
        code = _lib.gnutls_prf_rfc5705(self._session, ctypes.c_size_t(len(label)), label, ctypes.c_size_t(0), b"",
                                       ctypes.c_size_t(32), out)
        assert code == 0
        return out.raw

    def close(self):
        """Say close_notify and close."""
        if self.sock.fileno() >= 0:
            _lib.gnutls_bye(self._session, SHUT_WR)
        self.abort()

    def abort(self):
        """Close the socket without a word."""
        self.sock.close()

    def __del__(self):
        if getattr(self, "_session", None):
            _lib.gnutls_deinit(self._session)
            _lib.gnutls_psk_free_client_credentials(self._credentials)
            self._session = None
