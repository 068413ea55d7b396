package haproxy

import (
	"reflect"
	"slices"
	"testing"

	"signalbox"
	"signalbox/templates"
)

// A template is another one where a word is that only some configurations reach, and not where a comment is.
func TestTemplatesAreToldApart(t *testing.T) {
	identity := func(more string) string {
		t.Helper()
		tmpl, err := ParseTemplate("x", templates.HAProxy+more)
		if err != nil {
			t.Fatal(err)
		}
		return tmpl.Identity()
	}
	shipped := identity("")
	if shipped != DefaultTemplate().Identity() || shipped != identity("{{/* nothing */}}") {
		t.Error("the same template is told apart")
	}
	for _, more := range []string{"{{if eq .Threads 77}}# rare\n{{end}}", `{{define "bound"}} tfo{{end}}`, `{{define "users"}}# none{{end}}`} {
		if identity(more) == shipped {
			t.Errorf("a template with %q is taken for the shipped one", more)
		}
	}
}

// What is made of the sample shows every change of what signalbox makes of labels.
func TestSampleAsksForEverything(t *testing.T) {
	c := sample()
	if len(c.Problems) > 0 {
		t.Errorf("problems: %v", c.Problems)
	}
	fields := reflect.TypeFor[signalbox.Policy]()
	for i := range fields.NumField() {
		if slices.Contains(elsewhere, fields.Field(i).Name) {
			continue
		}
		if !slices.ContainsFunc(c.Backends, func(b *Backend) bool { return b.Policy != nil && !reflect.ValueOf(b.Policy.Policy).Field(i).IsZero() }) {
			t.Errorf("no service asks for %s", fields.Field(i).Name)
		}
	}
}
