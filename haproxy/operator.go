package haproxy

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// User is one line of a list of users.
type User struct {
	Name string
	Hash string // of the password, as crypt(3) writes it; a secret
}

// maxPage is how large an error page may be: HAProxy keeps it in one buffer.
const maxPage = 12 << 10

// maxGiven is how large a file of the operator's may be.
const maxGiven = 1 << 20

// ReadUserLists reads a directory of lists of users: each file is a list under its name, each line "user:hash". A file that cannot
// be used is an error: whoever relies on it would lock out everybody.
func ReadUserLists(dir string) (map[string][]User, error) {
	lists := make(map[string][]User)
	err := EachFile(dir, func(name string, data []byte, err error) error {
		if err == nil {
			lists[name], err = ParseUserList(data)
		}
		return inFile(dir, name, err)
	})
	if err != nil {
		return nil, fmt.Errorf("reading the lists of users: %w", err)
	}
	return lists, nil
}

// ParseUserList reads one list of users. No error shows what stands in it.
func ParseUserList(data []byte) ([]User, error) {
	users := []User{}
	lines := bufio.NewScanner(bytes.NewReader(data))
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		name, hash, _ := strings.Cut(line, ":")
		if u := (User{name, hash}); validUser(u) {
			users = append(users, u)
			continue
		}
		return nil, fmt.Errorf("line %d is not of the form user:hash, with a hash as crypt(3) writes it ($5$…, $6$…, $2y$…, $y$…; not $apr1$)", n)
	}
	return users, lines.Err()
}

// validUser reports whether a user can stand in a list, with a hash of a kind that crypt(3) knows. Others, like Apache's $apr1$, HAProxy
// loads without a word and compares with nothing.
func validUser(u User) bool {
	if u.Name == "" || len(u.Name) > 200 || strings.ContainsFunc(u.Name, func(r rune) bool { return r <= ' ' || r == 0x7f || r == ':' }) {
		return false
	}
	if len(u.Hash) > 500 {
		return false
	}
	for _, kind := range []string{"$1$", "$2a$", "$2b$", "$2y$", "$5$", "$6$", "$y$", "$gy$", "$7$"} {
		if rest, ok := strings.CutPrefix(u.Hash, kind); ok {
			return all(rest, "./$=,")
		}
	}
	return len(u.Hash) == 13 && all(u.Hash, "./") // the old crypt of 56 bits
}

// ReadErrorPages reads a directory of error pages: each file is a page under its name, either the whole answer from "HTTP/1.1 503 …"
// on, or its body alone.
func ReadErrorPages(dir string) (map[string][]byte, error) {
	pages := make(map[string][]byte)
	err := EachFile(dir, func(name string, data []byte, err error) error {
		if err == nil {
			pages[name], err = ParseErrorPage(data)
		}
		return inFile(dir, name, err)
	})
	if err != nil {
		return nil, fmt.Errorf("reading the error pages: %w", err)
	}
	return pages, nil
}

// ParseErrorPage returns the page that a file holds, or why HAProxy would not load it.
func ParseErrorPage(data []byte) ([]byte, error) { return data, validPage(data) }

// validPage reports what HAProxy would not load.
func validPage(data []byte) error {
	switch {
	case len(data) == 0:
		return errors.New("it is empty")
	case len(data) > maxPage:
		return fmt.Errorf("it is larger than %d bytes", maxPage)
	case wholeAnswer(data) && !bytes.Contains(data, []byte("\r\n\r\n")):
		return errors.New("it begins as an answer, with HTTP/, but has no empty line after its headers; lines end with CR LF")
	}
	return nil
}

// wholeAnswer reports whether a page has a status line and headers of its own.
func wholeAnswer(page []byte) bool { return bytes.HasPrefix(page, []byte("HTTP/")) }

// pageFile returns the name of a page's file in Options.Dir.
func pageFile(name string) string { return "page." + name }

// pageType returns the media type of a page that is a body alone.
func pageType(name string) Word {
	switch filepath.Ext(name) {
	case ".json":
		return "application/json"
	case ".txt":
		return "text/plain"
	}
	return "text/html"
}

// EachFile calls f for each file of a directory of the operator's, by name, with what it holds or why it cannot be used; hidden ones and
// directories are passed over. It ends with the first error of f.
func EachFile(dir string, f func(name string, data []byte, err error) error) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		info, err := os.Stat(path) // through links, which a directory of secrets is made of
		var data []byte
		switch {
		case strings.HasPrefix(e.Name(), "."), errors.Is(err, fs.ErrNotExist), err == nil && info.IsDir():
			continue
		case err != nil:
		case !validName(e.Name()):
			err = errors.New("a name has letters, digits, dots, dashes and underscores only")
		case !info.Mode().IsRegular():
			err = errors.New("it is no regular file")
		case info.Size() > maxGiven:
			err = fmt.Errorf("it is larger than %d bytes", maxGiven)
		default:
			data, err = os.ReadFile(path)
		}
		if err := f(e.Name(), data, err); err != nil {
			return err
		}
	}
	return nil
}

func inFile(dir, name string, err error) error {
	if err != nil {
		return fmt.Errorf("%s: %w", filepath.Join(dir, name), err)
	}
	return nil
}

// validName reports whether an operator's file can be named in the configuration.
func validName(s string) bool { return len(s) <= 100 && all(s, ".-_") && !strings.HasPrefix(s, ".") }
