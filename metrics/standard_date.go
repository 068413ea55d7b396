package metrics

import "encoding/binary"

// acceptDate reads "[25/Nov/2026:23:46:30.074]" into milliseconds since the epoch, as if it were UTC.
func (p *parser) acceptDate(text []byte) (ms int64, ok bool) {
	b := (*[dateLength]byte)(text)
	x, y, z := b[22]-'0', b[23]-'0', b[24]-'0'
	if b[21] != '.' || b[25] != ']' || max(x, y, z) > 9 {
		return 0, false
	}
	second := [3]uint64{binary.LittleEndian.Uint64(b[:]), binary.LittleEndian.Uint64(b[8:]), binary.LittleEndian.Uint64(b[dateSecond-8:])}
	if p.second[0] != second[0] || p.second[1] != second[1] || p.second[2] != second[2] {
		s, ok := acceptSecond(text)
		if !ok {
			return 0, false
		}
		p.second, p.ms = second, s*1000
	}
	return p.ms + int64(x)*100 + int64(y)*10 + int64(z), true
}

// acceptSecond reads "[25/Nov/2026:23:46:30" into seconds since the epoch.
func acceptSecond(b []byte) (second int64, ok bool) {
	if b[3] != '/' || b[7] != '/' || b[12] != ':' || b[15] != ':' || b[18] != ':' {
		return 0, false
	}
	bad := byte(0)
	two := func(i int) int64 {
		hi, lo := b[i]-'0', b[i+1]-'0'
		bad = max(bad, hi, lo)
		return int64(hi)*10 + int64(lo)
	}
	day, year, hour, minute, sec := two(1), two(8)*100+two(10), two(13), two(16), two(19)
	month := monthOf(b[4], b[5], b[6])
	if bad > 9 || month == 0 || day < 1 || day > 31 || hour > 23 || minute > 59 || sec > 60 || year < 1970 {
		return 0, false
	}
	return ((days(year, month, day)*24+hour)*60+minute)*60 + sec, true
}

func monthOf(a, b, c byte) int64 {
	switch uint32(a)<<16 | uint32(b)<<8 | uint32(c) {
	case 'J'<<16 | 'a'<<8 | 'n':
		return 1
	case 'F'<<16 | 'e'<<8 | 'b':
		return 2
	case 'M'<<16 | 'a'<<8 | 'r':
		return 3
	case 'A'<<16 | 'p'<<8 | 'r':
		return 4
	case 'M'<<16 | 'a'<<8 | 'y':
		return 5
	case 'J'<<16 | 'u'<<8 | 'n':
		return 6
	case 'J'<<16 | 'u'<<8 | 'l':
		return 7
	case 'A'<<16 | 'u'<<8 | 'g':
		return 8
	case 'S'<<16 | 'e'<<8 | 'p':
		return 9
	case 'O'<<16 | 'c'<<8 | 't':
		return 10
	case 'N'<<16 | 'o'<<8 | 'v':
		return 11
	case 'D'<<16 | 'e'<<8 | 'c':
		return 12
	}
	return 0
}

// days returns how many days a date of the years from 1970 on is after 1970-01-01.
func days(year, month, day int64) int64 {
	if month <= 2 {
		year--
		month += 12
	}
	return 365*year + year/4 - year/100 + year/400 + (153*month-457)/5 + day - 719469
}
