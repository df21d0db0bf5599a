package id

// bodyLen is the number of base32 characters that hold 128 bits. They could hold two more, which must be zero: this is
// why the first character is at most 7.
const bodyLen = 26

// alphabet is Crockford's base32 in lower case: no i, l, o, u.
const alphabet = "0123456789abcdefghjkmnpqrstvwxyz"

// notBase32 marks the bytes outside the alphabet. It is larger than any digit, so one comparison after the loop refuses
// them all.
const notBase32 = 0xff

// digits is the inverse of alphabet.
var digits = invert(alphabet)

func invert(alphabet string) [256]uint8 {
	var table [256]uint8
	for i := range table {
		table[i] = notBase32
	}
	for i := range len(alphabet) {
		table[alphabet[i]] = uint8(i)
	}
	return table
}

// appendBase32 appends the 26 characters of id to dst.
func appendBase32(dst []byte, id ID) []byte {
	high, low := id.high(), id.low()
	for shift := 61; shift > 0; shift -= 5 { // characters 0–12; the first one holds three bits
		dst = append(dst, alphabet[high>>shift&31])
	}
	dst = append(dst, alphabet[high<<4&31|low>>60]) // character 13 holds bits of both halves
	for shift := 55; shift >= 0; shift -= 5 {       // characters 14–25
		dst = append(dst, alphabet[low>>shift&31])
	}
	return dst
}

// parseBase32 reads exactly what appendBase32 writes. Anything else is false: there is one spelling for each id, so
// that text can be compared and logged without being read first.
func parseBase32(body string) (ID, bool) {
	var id ID
	if len(body) != bodyLen || digits[body[0]] > 7 {
		return id, false
	}
	var seen uint8
	var high, low uint64
	for i := range 13 {
		digit := digits[body[i]]
		seen |= digit
		high = high<<5 | uint64(digit&31)
	}
	high = high<<1 | uint64(digits[body[13]]&31)>>4
	for i := 13; i < bodyLen; i++ { // the bit that went to high falls off at the top
		digit := digits[body[i]]
		seen |= digit
		low = low<<5 | uint64(digit&31)
	}
	if seen > 31 {
		return id, false
	}
	return fromHalves(high, low), true
}
