package marathon

import (
	"encoding/json"
	"reflect"
	"testing"
)

// everyField is an app in which each field that routing needs says something.
const everyField = `{"id":"/a","labels":{"x":"y"},"instances":2,"version":"2021-06-01T10:00:00.000Z",
	"versionInfo":{"lastConfigChangeAt":"2021-06-01T09:00:00.000Z","lastScalingAt":"2021-06-01T10:00:00.000Z"},
	"ports":[1],"portDefinitions":[{"port":1,"name":"http","protocol":"tcp","labels":{"x":"y"}}],
	"container":{"portMappings":[{"containerPort":1,"hostPort":1,"servicePort":1,"name":"http","protocol":"tcp","labels":{"x":"y"},"networkNames":["n"]}],
		"docker":{"network":"USER","portMappings":[{"containerPort":1,"hostPort":1,"servicePort":1,"name":"http","protocol":"tcp","labels":{"x":"y"},"networkNames":["n"]}]}},
	"networks":[{"mode":"container","name":"n"}],
	"ipAddress":{"networkName":"n","discovery":{"ports":[{"number":1,"name":"http","protocol":"tcp","labels":{"x":"y"}}]}},
	"healthChecks":[{"protocol":"HTTP","path":"/","portIndex":1,"port":1,"intervalSeconds":1,"timeoutSeconds":1,"maxConsecutiveFailures":1}],
	"readinessChecks":[{"timeoutSeconds":1}],"readinessCheckResults":[{"taskId":"a.1","ready":true}],"deployments":[{"id":"d"}],
	"tasks":[{"id":"a.1","host":"h","ports":[1],"ipAddresses":[{"ipAddress":"10.0.0.1"}],"state":"TASK_RUNNING",
		"startedAt":"2021-06-01T10:00:01.000Z","version":"2021-06-01T10:00:00.000Z","healthCheckResults":[{"alive":true,"consecutiveFailures":1}]}]}`

// The decoder of apps is written by hand: no field may be added to an app and be passed over there, or read otherwise than by the
// standard library.
func TestDecoderReadsEveryField(t *testing.T) {
	got, err := readApp([]byte(everyField))
	if err != nil {
		t.Fatal(err)
	}
	want := &App{}
	if err := json.Unmarshal([]byte(everyField), want); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
	var walk func(path string, v reflect.Value)
	walk = func(path string, v reflect.Value) {
		switch v.Kind() {
		case reflect.Pointer:
			if v.IsNil() {
				t.Errorf("%s is not read", path)
				return
			}
			walk(path, v.Elem())
		case reflect.Slice:
			if v.Len() == 0 {
				t.Errorf("%s is not read", path)
				return
			}
			walk(path+"[]", v.Index(0))
		case reflect.Struct:
			for i := range v.NumField() {
				if f := v.Type().Field(i); f.Tag.Get("json") != "" {
					walk(path+"."+f.Name, v.Field(i))
				}
			}
		default:
			if v.IsZero() {
				t.Errorf("%s is not read", path)
			}
		}
	}
	walk("app", reflect.ValueOf(got))
}
