package agent

import (
	"fmt"
	"io"
	"os"
)

// logFile is a file that never grows past a bound: full, it is renamed to path.1 and begun anew.
type logFile struct {
	path  string
	limit int64
	file  *os.File
	size  int64
}

func openLogFile(path string, limit int64) (*logFile, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o644)
	if err != nil {
		return nil, fmt.Errorf("opening a task's output: %w", err)
	}
	return &logFile{path: path, limit: limit, file: f}, nil
}

// Write appends b. It always takes all of b: output that cannot be kept is dropped rather than stop the task that writes it.
func (l *logFile) Write(b []byte) (int, error) {
	n := len(b)
	if int64(n) > l.limit {
		b = b[int64(n)-l.limit:]
	}
	if l.size+int64(len(b)) > l.limit {
		l.rotate()
	}
	if l.file != nil {
		wrote, _ := l.file.Write(b) // a full disk costs the output only
		l.size += int64(wrote)
	}
	return n, nil
}

func (l *logFile) rotate() {
	l.file.Close()
	l.file, l.size = nil, 0
	if os.Rename(l.path, l.path+".1") != nil {
		return
	}
	if f, err := os.OpenFile(l.path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o644); err == nil {
		l.file = f
	}
}

// drain copies r to the file until r ends, then closes both.
func (l *logFile) drain(r io.ReadCloser) {
	defer r.Close()
	_, _ = io.Copy(struct{ io.Writer }{l}, r) // ends with the pipe, whatever the reason
	if l.file != nil {
		l.file.Close()
	}
}
