package admin

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// ReadToken reads a token file. Its blanks at the ends don't count; fewer than 16 bytes are refused as guessable.
func ReadToken(path string) (string, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("reading the admin token: %w", err)
	}
	token := strings.TrimSpace(string(b))
	if len(token) < 16 {
		return "", fmt.Errorf("reading the admin token: %s holds %d bytes, fewer than the 16 that make it hard to guess", path, len(token))
	}
	return token, nil
}

// ensureToken returns the token of a file, and makes one, for its owner's eyes only, if there is no file.
func ensureToken(path string) (token string, made bool, err error) {
	token, err = ReadToken(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return token, false, err
	}
	b := make([]byte, 32)
	_, _ = rand.Read(b) // never fails
	token = hex.EncodeToString(b)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return "", false, fmt.Errorf("making the admin token: %w", err)
	}
	// O_EXCL: a second process that starts at the same time doesn't replace what the first one has told its clients.
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		token, err = ReadToken(path)
		return token, false, err
	}
	if err != nil {
		return "", false, fmt.Errorf("making the admin token: %w", err)
	}
	_, err = f.WriteString(token + "\n")
	if err := errors.Join(err, f.Close()); err != nil {
		return "", false, fmt.Errorf("making the admin token: %w", err)
	}
	return token, true, nil
}

// sameSecret compares in constant time, whatever the lengths.
func sameSecret(a, b string) bool {
	x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
	return subtle.ConstantTimeCompare(x[:], y[:]) == 1
}

const (
	cookieName  = "signalbox-admin"
	sessionLife = 12 * time.Hour
	maxSessions = 64 // the oldest ends when one more begins
)

// sessions are those of browsers that have shown the token. A cookie reaches every port of its host, so its value is not the
// token and opens nothing but the reading of pages, for a while.
type sessions struct {
	mu    sync.Mutex
	until map[string]time.Time
}

func (s *sessions) begin(now time.Time) string {
	id := rand.Text()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.until == nil {
		s.until = map[string]time.Time{}
	}
	if len(s.until) >= maxSessions {
		oldest := ""
		for k, t := range s.until {
			if oldest == "" || t.Before(s.until[oldest]) {
				oldest = k
			}
		}
		delete(s.until, oldest)
	}
	s.until[id] = now.Add(sessionLife)
	return id
}

func (s *sessions) valid(id string, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	t, ok := s.until[id]
	if ok && now.After(t) {
		delete(s.until, id)
		return false
	}
	return ok
}

// hostAllowed reports whether a Host header names this machine as such. A page elsewhere whose name is made to resolve to
// 127.0.0.1 sends its own name, and is refused.
func hostAllowed(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	if strings.EqualFold(host, "localhost") {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Unmap().IsLoopback()
}

// crossSite reports whether a browser says that a page from elsewhere, even from another port of this host, asks for this
// without the person having followed a link.
func crossSite(r *http.Request) bool {
	switch r.Header.Get("Sec-Fetch-Site") {
	case "", "same-origin", "none":
		return false
	}
	return r.Header.Get("Sec-Fetch-Mode") != "navigate"
}

// authorized reports whether a request shows the token, as a bearer token or as the password of basic authentication (which a
// URL for `go tool pprof` can hold), or a session that began with it.
func (s *Server) authorized(r *http.Request) bool {
	if kind, _, ok := strings.Cut(r.Header.Get("Authorization"), " "); ok {
		if _, password, ok := r.BasicAuth(); ok && !strings.EqualFold(kind, "Bearer") {
			return sameSecret(password, s.token)
		}
		return s.bearer(r)
	}
	c, err := r.Cookie(cookieName)
	return err == nil && !crossSite(r) && s.sessions.valid(c.Value, time.Now())
}

// bearer reports whether a request shows the token as a bearer token.
func (s *Server) bearer(r *http.Request) bool { return bears(r, s.token) }

// bears reports whether a request shows a bearer token.
func bears(r *http.Request, token string) bool {
	kind, rest, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	return strings.EqualFold(kind, "Bearer") && sameSecret(strings.TrimSpace(rest), token)
}

// login answers a request that has the token in its URL: it begins a session and leads to the same URL without the token.
func (s *Server) login(w http.ResponseWriter, r *http.Request, query url.Values) {
	if !sameSecret(query.Get("token"), s.token) {
		s.refuse(w, r, "token", http.StatusUnauthorized, "the token is wrong")
		return
	}
	http.SetCookie(w, &http.Cookie{
		Name: cookieName, Value: s.sessions.begin(time.Now()), Path: "/", HttpOnly: true,
		SameSite: http.SameSiteStrictMode, MaxAge: int(sessionLife.Seconds()),
	})
	query.Del("token")
	// Only the path is kept of the URL, and rooted: "//elsewhere" would lead away.
	to := url.URL{Path: "/" + strings.TrimLeft(r.URL.Path, "/"), RawQuery: query.Encode()}
	w.Header().Set("Location", to.String())
	w.WriteHeader(http.StatusSeeOther)
}
