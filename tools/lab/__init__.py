# SPDX-License-Identifier: Apache-2.0
"""A whole Sallyport system on one machine: certificates, a broker in the cloud's role, a gateway, devices.

Used by ./demo and by the scenario tests. Everything lives in one temporary folder and ends with it; processes are
ended by their own id.
"""
