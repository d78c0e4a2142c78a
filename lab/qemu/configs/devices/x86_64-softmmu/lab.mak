# SPDX-License-Identifier: GPL-2.0-or-later
#
# The devices of the lab's machines: a PC with serial ports, virtio and the
# test devices, and no display, network, sound or USB.

CONFIG_I440FX=y
CONFIG_Q35=y
CONFIG_SERIAL_ISA=y
CONFIG_ISA_DEBUG=y
CONFIG_TEST_DEVICES=y
CONFIG_VIRTIO_PCI=y
CONFIG_VIRTIO_SERIAL=y
CONFIG_VIRTIO_BLK=y
CONFIG_VIRTIO_RNG=y
