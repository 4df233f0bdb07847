// The page: each panel draws itself when what it shows has changed.

import {check, start as access} from "./access.js";
import {draw as alerts} from "./alerts.js";
import {draw as chart, start as charts} from "./charts.js";
import {draw as drift} from "./drift.js";
import {start as explain} from "./explain.js";
import {draw as freshness} from "./freshness.js";
import {draw as history} from "./history.js";
import {draw as letters} from "./letters.js";
import {connect, watch} from "./live.js";
import {draw as models} from "./models.js";
import {draw as notices} from "./notices.js";
import {draw as picture} from "./picture.js";
import {on, touch} from "./store.js";
import {start as theme} from "./theme.js";
import {draw as tiles} from "./tiles.js";

const PICTURE = ["glance", "pipeline", "link", "size"];

on(["connection"], check);
on(["stream", "link", "glance", "alerts", "pipeline", "access"], notices);
on(["glance", "link", "models", "metrics", "alerts", "letters", "clock"], tiles);
on(PICTURE, picture);
on(["glance"], freshness);
on(["metrics", "models", "theme", "size"], chart);
on(["models", "metrics", "access", "pipeline"], models);
on(["alerts", "access"], alerts);
on(["drift", "pipeline"], drift);
on(["letters", "pipeline"], letters);
on(["models"], history);

theme();
charts();
explain();
access();
connect();
watch();
addEventListener("resize", () => touch("size"));
setInterval(() => touch("clock"), 1_000);
