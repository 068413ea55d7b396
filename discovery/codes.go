package discovery

import "signalbox"

// Codes lists the codes of conflicts between sources, and of deployment groups.
func Codes() []signalbox.Code {
	return []signalbox.Code{
		{Code: "SB201", Meaning: "Two sources announce the same service. The one whose source comes first is used.", Fix: "Run the app in one place, or leave one of the sources out."},
		{Code: "SB306", Meaning: "A deployment group has the id of an app that is no member of it. Its members are services of their own.", Fix: "Give the group an id of its own, or make that app a member (HAPROXY_DEPLOYMENT_GROUP)."},
		{Code: "SB307", Meaning: "A deployment from one app to another does not say how many instances it shall have in the end. As many of the older app's tasks as the younger has healthy ones are drained.", Fix: "Set HAPROXY_DEPLOYMENT_TARGET_INSTANCES on the younger app."},
		{Code: "SB313", Meaning: "An app names a deployment group whose members are in another folder of Marathon's. It is a service of its own.", Fix: "Deploy the members of a group side by side, or give the group another id."},
	}
}
