package ext

// crc16Table is that of the reflected polynomial 0xA001 (CRC-16/ARC).
var crc16Table = func() (table [256]uint16) {
	for i := range table {
		crc := uint16(i)
		for range 8 {
			if crc&1 != 0 {
				crc = crc>>1 ^ 0xA001
			} else {
				crc >>= 1
			}
		}
		table[i] = crc
	}
	return table
}()

// crc16 continues a checksum over b as the kernel's crc16 does.
func crc16(crc uint16, b []byte) uint16 {
	for _, c := range b {
		crc = crc>>8 ^ crc16Table[uint8(crc)^c]
	}
	return crc
}
