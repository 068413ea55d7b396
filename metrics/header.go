package metrics

import "bytes"

// cutHeader returns the line without what a syslog daemon, a file or a journal's export put before it: a priority, and RFC 5424's
// or 3164's fields, either with or without it. It goes by position, never by search, so that a message can't pass for a header.
func (p *parser) cutHeader(line []byte, r *Record) []byte {
	if ours(line) || len(line) < 3 {
		return line
	}
	if line[0] == '<' {
		i, pri := 1, 0
		for i < len(line) && i < 4 && digit(line[i]) {
			pri = pri*10 + int(line[i]-'0')
			i++
		}
		if i == 1 || i >= len(line) || line[i] != '>' {
			return line
		}
		r.Severity = int8(pri & 7)
		line = line[i+1:]
		if ours(line) {
			return line
		}
	} else if rest, ok := bytes.CutPrefix(line, []byte("MESSAGE=")); ok {
		return rest // of a journal's export
	}
	if len(line) < 24 {
		return line
	}
	switch {
	case line[3] == ' ' && line[6] == ' ':
		if rest, ok := p.cut3164(line); ok {
			return rest
		}
	case line[1] == ' ' && line[0] == '1':
		if rest, ok := cut5424(line); ok {
			return rest
		}
	case line[4] == '-' && line[7] == '-' && line[10] == 'T':
		if rest, ok := cutTag(line[11:]); ok {
			return rest
		}
	}
	return line
}

// ours reports whether a line begins as one of LogFormat does.
func ours(line []byte) bool { return len(line) > 1 && line[0] == mark[0] && line[1] == mark[1] }

// cut5424 cuts "1 TIME HOST APP PID MSGID - ", with structured data in the place of the last dash too.
func cut5424(line []byte) ([]byte, bool) {
	if line[6] != '-' || line[9] != '-' || line[12] != 'T' {
		return nil, false
	}
	rest := line[2:]
	for range 5 {
		i := bytes.IndexByte(rest, ' ')
		if i < 1 {
			return nil, false
		}
		rest = rest[i+1:]
	}
	if len(rest) > 0 && rest[0] == '[' {
		return cutData(rest)
	}
	if len(rest) < 2 || rest[0] != '-' || rest[1] != ' ' {
		return nil, false
	}
	return rest[2:], true
}

// cutData cuts RFC 5424's structured data: elements in brackets, in whose quoted values a backslash stands before ", \ and ].
func cutData(line []byte) ([]byte, bool) {
	quoted := false
	for i := 0; i < len(line); i++ {
		switch c := line[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case !quoted && c == ']' && i+1 < len(line) && line[i+1] == ' ':
			return line[i+2:], true
		}
	}
	return nil, false
}

// cut3164 cuts "Mmm dd hh:mm:ss [HOST ]TAG[PID]: ". The time may have a fraction.
func (p *parser) cut3164(line []byte) ([]byte, bool) {
	if line[9] != ':' || line[12] != ':' || line[15] != ' ' && line[15] != '.' {
		return nil, false
	}
	line = line[15:]
	if n := len(p.tag); n > 0 && len(line) >= n && string(line[:n]) == string(p.tag) {
		return line[n:], true
	}
	rest, ok := cutTag(line)
	if ok && p.remembers {
		p.tag = append(p.tag[:0], line[:len(line)-len(rest)]...)
	}
	return rest, ok
}

// cutTag cuts " [HOST ]TAG[PID]: " with what is left of the time before it.
func cutTag(line []byte) ([]byte, bool) {
	i := bytes.IndexByte(line, ' ')
	if i < 0 {
		return nil, false
	}
	rest := line[i+1:]
	for range 2 {
		i := bytes.IndexByte(rest, ' ')
		if i < 1 {
			return nil, false
		}
		word := rest[:i]
		rest = rest[i+1:]
		if word[i-1] == ':' {
			return rest, true
		}
	}
	return nil, false
}
