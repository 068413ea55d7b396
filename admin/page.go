package admin

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"html/template"
	"io/fs"
	"net/http"
	"strconv"
	"time"

	"signalbox"
)

// pages are the HTML answers. They load nothing: the style sheet stands in them, and the policy names its hash.
type pages struct {
	templates *template.Template
	style     template.CSS
	policy    string
}

func newPages(web fs.FS) (*pages, error) {
	css, err := fs.ReadFile(web, "style.css")
	if err != nil {
		return nil, fmt.Errorf("reading the pages' style sheet: %w", err)
	}
	t, err := template.New("").Funcs(template.FuncMap{
		"ago": Ago, "moment": moment, "number": number, "duration": Span, "short": ShortSpan, "rate": Digits,
		"percent": func(ratio float64) string { return Digits(100*ratio) + " %" },
	}).ParseFS(web, "*.html")
	if err != nil {
		return nil, fmt.Errorf("reading the pages: %w", err)
	}
	sum := sha256.Sum256(css)
	return &pages{
		templates: t,
		style:     template.CSS(css),
		policy: "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) +
			"'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
	}, nil
}

// view is what every page's template gets.
type view struct {
	Style   template.CSS
	Title   string
	Health  Health
	Routes  Routes
	Hub     hubView
	Level   signalbox.Level
	Message string
	At      time.Time // what ages are measured from
}

func (p *pages) health(w http.ResponseWriter, code int, h Health) {
	p.write(w, code, "health.html", view{Title: string(h.Status), Health: h, Level: h.Status, At: h.At})
}

func (p *pages) routes(w http.ResponseWriter, r Routes) {
	p.write(w, http.StatusOK, "routes.html", view{Title: "routes", Routes: r, At: r.At})
}

func (p *pages) bare(w http.ResponseWriter, code int, l signalbox.Level) {
	p.write(w, code, "door.html", view{Title: string(l), Level: l})
}

func (p *pages) refusal(w http.ResponseWriter, code int, message string) {
	p.write(w, code, "door.html", view{Title: http.StatusText(code), Message: message})
}

func (p *pages) write(w http.ResponseWriter, code int, name string, v view) {
	v.Style = p.style
	var b bytes.Buffer
	if err := p.templates.ExecuteTemplate(&b, name, v); err != nil {
		writeJSON(w, http.StatusInternalServerError, map[string]string{"apiVersion": APIVersion, "error": "writing the page: " + err.Error()})
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", p.policy)
	w.WriteHeader(code)
	_, _ = w.Write(b.Bytes()) // a client that is gone is nobody's loss
}

func moment(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05Z") }

func number(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }
