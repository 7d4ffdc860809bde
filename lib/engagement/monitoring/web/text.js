// What the page says, in both languages. Names of products stay as they are.

const minutesAr = (minutes) => `آخر ${minutes} ${minutes >= 3 && minutes <= 10 ? "دقائق" : "دقيقة"}`;

export const TEXT = {
  en: {
    skip: "Skip to the ranking", title: "Engagement, live", settings: "Settings", theme: "Theme", updated: "Updated",
    sinks: "Freshness of each sink", p99: "99 % visible within", promise: "promised", median: "median",
    oldest: "oldest waiting", noFigure: "no event in the last minute", silent: "silent",
    ranking: "Top content", last: (minutes) => `last ${minutes} ${minutes === 1 ? "minute" : "minutes"}`, rows: "Rows",
    rank: "Rank", move: "Movement", content: "Content", score: "Score", empty: "No event in the window yet.",
    up: "up", down: "down", fresh: "new", untitled: "(unknown content)", open: "Details of",
    podcast: "podcast", newsletter: "newsletter", video: "video",
    throughput: "Throughput", perSecond: "events per second", delivered: "Delivered since the job's start",
    waiting: "Waiting in Kafka", health: "Health", since: "since", embedded: "embedded",
    healthy: "Healthy", degraded: "Degraded", unhealthy: "Unhealthy", unknown: "Unknown",
    dead: "Rejected messages by code", noDead: "None since the job's start.",
    close: "Close", recent: "Newest events", noStats: "No event in the window.", noEvents: "None within the last hour.",
    time: "Time", event: "Event", share: "Share", device: "Device",
    events: "Events", users: "Users (about)", seconds: "Time spent", average: "Share, mean",
    play: "play", pause: "pause", finish: "finish", click: "click",
    postgres: "PostgreSQL", replication_slot: "Replication slot", kafka: "Kafka", connect: "Kafka Connect",
    source: "Connector's heartbeat", redis: "Redis", reader: "Reader of new rows", warehouse: "Warehouse",
    external: "External system", lake: "Lake", query: "Query",
    sink_redis: "Live ranking", sink_warehouse: "Warehouse", sink_external: "External system", sink_lake: "Lake",
    ms: "ms", s: "s",
    lost: "The API does not answer. Trying again.", noBoard: "The ranking cannot be read. Trying again.",
  },
  ar: {
    skip: "انتقل إلى الترتيب", title: "التفاعل مباشرةً", settings: "الإعدادات", theme: "المظهر", updated: "آخر تحديث",
    sinks: "حداثة كل وجهة", p99: "99٪ تظهر خلال", promise: "الموعود", median: "الوسيط",
    oldest: "أقدم منتظر", noFigure: "لا أحداث في الدقيقة الأخيرة", silent: "صامت",
    ranking: "الأعلى تفاعلًا", last: minutesAr, rows: "الصفوف",
    rank: "الترتيب", move: "التغيّر", content: "المحتوى", score: "النقاط", empty: "لا أحداث في النافذة بعد.",
    up: "صعود", down: "هبوط", fresh: "جديد", untitled: "(محتوى غير معروف)", open: "تفاصيل",
    podcast: "بودكاست", newsletter: "نشرة بريدية", video: "فيديو",
    throughput: "التدفق", perSecond: "حدثًا في الثانية", delivered: "سُلّم منذ بدء المهمة",
    waiting: "بانتظار المعالجة في Kafka", health: "حالة النظام", since: "منذ", embedded: "مدمج",
    healthy: "سليم", degraded: "متراجع", unhealthy: "معطّل", unknown: "غير معروف",
    dead: "الرسائل المرفوضة حسب الرمز", noDead: "لا شيء منذ بدء المهمة.",
    close: "إغلاق", recent: "أحدث الأحداث", noStats: "لا أحداث في النافذة.", noEvents: "لا شيء خلال الساعة الأخيرة.",
    time: "الوقت", event: "الحدث", share: "النسبة", device: "الجهاز",
    events: "الأحداث", users: "المستخدمون (تقريبًا)", seconds: "الوقت المستغرق", average: "متوسط النسبة",
    play: "تشغيل", pause: "إيقاف مؤقت", finish: "إكمال", click: "نقرة",
    postgres: "PostgreSQL", replication_slot: "منفذ النسخ", kafka: "Kafka", connect: "Kafka Connect",
    source: "نبض الموصّل", redis: "Redis", reader: "قارئ الصفوف الجديدة", warehouse: "المستودع",
    external: "النظام الخارجي", lake: "البحيرة", query: "استعلام",
    sink_redis: "الترتيب الحي", sink_warehouse: "المستودع", sink_external: "النظام الخارجي", sink_lake: "البحيرة",
    ms: "م.ث", s: "ث",
    lost: "لا تستجيب الواجهة. نعيد المحاولة.", noBoard: "تعذّرت قراءة الترتيب. نعيد المحاولة.",
  },
};

let language = "en";

export const current = () => language;
export const setLanguage = (chosen) => { language = chosen === "ar" ? "ar" : "en"; };
export const say = (key) => TEXT[language][key] ?? key;

const locale = () => (language === "ar" ? "ar-u-nu-latn" : "en-GB");
export const count = (value, digits = 0) => new Intl.NumberFormat(locale(), {
  minimumFractionDigits: digits, maximumFractionDigits: digits,
}).format(value);
export const clock = (moment) => new Date(moment).toLocaleTimeString(locale());
// With its day where that is not today.
export const when = (moment) => {
  const day = new Date(moment);
  return day.toDateString() === new Date().toDateString() ? clock(day) : day.toLocaleString(locale());
};
// A number never parts from its unit.
export const span = (seconds) => {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds > 0 && seconds < 1) return `${count(seconds * 1000)}\u00a0${say("ms")}`;
  return `${count(seconds, seconds < 10 && !Number.isInteger(seconds) ? 1 : 0)}\u00a0${say("s")}`;
};
