"""What people also type: greetings, general knowledge, requests, other pictures' things, and nonsense.

pocket gives one honest sentence to all of it. The generator is broad on purpose: the model must learn that whatever
is not one of its own questions gets this sentence.
"""

from __future__ import annotations

import random
import string

_SENTENCES = {
    "en": (
        "I am pocket, a tiny built-in model that only knows drawn shapes; "
        'run "gguf-vl pull 2b" for a model that sees the world.'
    ),
    "zh": "我是 pocket，一个只认识简单图形的内置小模型；运行“gguf-vl pull 2b”可获得能看懂世界的模型。",
}


def honest_sentence(language: str) -> str:
    """What pocket is, and how to get a model that sees the world (`en` or `zh`)."""
    return _SENTENCES[language]


_NOUNS = """
dog cat bird horse cow sheep fish elephant lion tiger bear monkey rabbit mouse snake frog duck chicken bee butterfly
car bus truck train plane boat ship bicycle motorcycle house tower bridge castle church school hospital shop market
street road river lake sea ocean mountain hill forest tree flower leaf grass garden park beach island desert sky cloud
sun moon planet rain snow wind storm fire water ice stone sand glass metal wood paper book newspaper letter page pen
pencil table chair bed sofa lamp door window wall floor roof kitchen bathroom room office desk computer phone keyboard
screen camera clock watch radio television bag box bottle cup plate bowl spoon fork knife bread cheese butter egg meat
soup rice pasta pizza salad apple banana lemon grape cherry potato tomato carrot onion coffee tea milk juice beer wine
sugar salt cake chocolate shirt coat dress hat shoe sock glove ring necklace umbrella man woman child boy girl baby
person people teacher doctor nurse farmer driver pilot soldier king queen president student friend family mother
father brother sister hand foot head face eye nose mouth ear hair heart finger arm leg game ball football tennis
guitar piano drum music song film movie story poem painting photo museum theatre language word sentence number price
money bank ticket passport map flag key lock hammer nail screw engine wheel battery robot rocket satellite telescope
microscope medicine virus cell atom molecule energy electricity gravity history science mathematics biology chemistry
physics philosophy economics politics law war peace democracy religion art culture logo brand sign menu receipt
invoice form chart graph table diagram button cursor icon hexagon pentagon octagon rectangle oval ellipse diamond
heart arrow cross line dot cube sphere cone cylinder pyramid spiral rhombus trapezoid background border shadow
gradient
""".split()
_ADJECTIVES = """
big small old new young good bad happy sad angry fast slow hot cold warm dry wet clean dirty rich poor strong weak
easy hard early late long short high low deep wide heavy light dark bright quiet loud soft sweet sour funny serious
famous strange modern ancient beautiful ugly simple difficult expensive cheap dangerous safe healthy sick hungry tired
lazy busy empty full grey silver golden wooden electric digital local foreign public private natural common rare
important best worst largest smallest
""".split()
_VERBS = """
make build write read learn teach cook bake fix repair clean wash paint draw sing dance run swim fly drive ride walk
climb travel sleep eat drink buy sell find lose win play study explain understand remember forget open close start
stop install update delete download print scan copy send receive translate calculate measure count sort compare choose
plan design test improve grow plant cut carry throw catch push pull break save spend earn invest meditate debug
compile deploy parse
""".split()
_PLACES = """
France Germany Italy Spain Portugal England Scotland Ireland Norway Sweden Finland Denmark Poland Russia Ukraine
Turkey Greece Egypt Nigeria Kenya Morocco China Japan Korea India Thailand Vietnam Indonesia Australia Canada Mexico
Brazil Argentina Chile Peru Paris London Berlin Rome Madrid Lisbon Vienna Prague Moscow Tokyo Beijing Shanghai Delhi
Sydney Toronto Chicago Boston Texas California Africa Asia Europe America Antarctica Mars Jupiter
""".split()
_PEOPLE = """
Einstein Newton Darwin Curie Mozart Bach Beethoven Shakespeare Goethe Tolstoy Dickens Picasso Leonardo Napoleon Caesar
Cleopatra Gandhi Mandela Lincoln Obama Turing Gauss Euler Confucius Plato Aristotle Socrates Alice Bob Anna Peter
Maria John Emma
""".split()
_LANGUAGES = """
English French German Spanish Italian Chinese Japanese Russian Latin Greek Arabic Hindi Dutch Polish
""".split()
_CODE = """
Python Java C Rust Go JavaScript TypeScript HTML CSS SQL Bash Haskell Lua Ruby Kotlin Swift JSON XML YAML
""".split()

_ENGLISH = """
Hello|Hi|Hey|Hello there!|Hi there|Good morning|Good evening!|Good night.|How are you?|How do you do?|What's up?|
Thank you!|Thanks|Bye|Goodbye|See you later|Yes|No|OK|Okay|Sure|Maybe|Please|Sorry|Help|Help me|Help!|test|Testing|
Who are you?|What are you?|What is your name?|What can you do?|What do you know?|Are you a robot?|Are you real?|
Who made you?|How old are you?|Where are you from?|Do you like me?|Tell me a joke.|Tell me a story.|Sing a song.|
What time is it?|What day is it today?|What is the weather like?|Can you help me?|Introduce yourself.|
Hello, who are you?|Hi, what can you do?|Are you ChatGPT?|Which model are you?|What version are you?|
Do you speak {lang}?|How big are you?|Is this a photo?|Is it day or night?|Is it raining?|Who is in the picture?|
Who is this person?|What is the man doing?|What is the woman wearing?|What is happening here?|What season is it?|
Where was this photo taken?|When was this taken?|Is this a cat or a dog?|Is the person smiling?|
How many people are there?|How many {noun}s are there?|How many {noun}s are in the picture?|Where is the {noun}?|
What colour is the {noun}?|What color is the {noun}?|Is there a {noun} in the picture?|Locate the {noun}.|
Find the {adj} {noun}.|Describe the {noun}.|What is the {noun} made of?|What kind of {noun} is this?|
Which {noun} is {adj}?|What breed is the {noun}?|Count the {noun}s.|Read the {noun}.|What is on the {noun}?|
What is behind the {noun}?|What is next to the {noun}?|Do you see the {adj} {noun}?|How {adj} is the {noun}?|
What does the {noun} look like?|What is the background colour?|What is the total on the receipt?|
What is the price of the {noun}?|Solve the equation in the picture.|What is the capital of {place}?|Where is {place}?|
How many people live in {place}?|What language do they speak in {place}?|Who is the president of {place}?|
How far is {place} from {place}?|What is {place} famous for?|What should I see in {place}?|Tell me about {place}.|
What is the population of {place}?|Who was {person}?|Who is {person}?|When was {person} born?|What did {person} do?|
Tell me about {person}.|Write a letter to {person}.|Who was {person}'s father?|Why is the {noun} {adj}?|
Why is the sky blue?|What is a {noun}?|What is {noun}?|Explain {noun}.|Explain {noun} to a child.|
What is the meaning of {noun}?|How does a {noun} work?|How do I {verb} a {noun}?|How can I {verb} my {noun}?|
Can you {verb}?|Can you {verb} a {noun}?|I want to {verb} a {noun}.|Please {verb} the {noun}.|
Should I {verb} or {verb}?|What is the best way to {verb}?|What happens if I {verb} the {noun}?|When should I {verb}?|
Write a poem about {noun}.|Write a poem about a {adj} {noun}.|Write a story about a {noun} and a {noun}.|
Write a song about {place}.|Write an essay about {noun}.|Write a haiku.|Write a {code} program.|
Write a {code} function to {verb} a {noun}.|Show me {code} code.|Fix this {code} code.|What is {code}?|
How do I learn {code}?|Translate {noun} into {lang}.|Translate this into {lang}.|How do you say {noun} in {lang}?|
Say hello in {lang}.|What is {n} plus {n}?|What is {n} + {n}?|{n} * {n} = ?|Calculate {n} - {n}.|
What is the square root of {n}?|Is {n} a prime number?|Count to {n}.|What is {n} divided by {n}?|{n}|{n}+{n}|
How many {noun}s in a {noun}?|Convert {n} miles to kilometres.|What is the area of a circle?|Draw a circle.|
Draw a {noun}.|Draw a red square.|Make a picture of a {noun}.|Paint a star.|How do I draw a triangle?|
What is a square?|What is a circle?|Why is a circle round?|How many sides does a triangle have?|
How many corners has a square?|Is red a colour?|What is your favourite colour?|Do you like blue?|
What is the best shape?|Mix red and blue.|Who invented the circle?|Sort these numbers.|What is the wavelength of red?|
Give me a list of {noun}s.|List five {noun}s.|List the {noun}s as JSON.|Name three {adj} {noun}s.|
Give me a recipe for {noun} {noun}.|Recommend a {noun}.|Summarize this article.|Summarize the text about {noun}.|
What is the main idea?|Give me ideas for a {noun}.|Rewrite this sentence.|Correct my grammar.|
Who won the {noun} in {n}?|When did the war end?|Is {noun} {adj}?|Is {noun} good for you?|
Which is better, {noun} or {noun}?|I am {adj}.|I feel {adj} today.|I have a {adj} {noun}.|My {noun} is {adj}.|
The {noun} is {adj}.|My name is {person}.|You are {adj}.|The {adj} {noun} {verb}s the {noun}.|I like {noun}.|
I love you.|{noun}|{adj} {noun}|{noun} {noun}|{verb}|{verb} {noun} {noun}|{adj}|{place}|{person}|
{noun} {verb} {adj} {noun} {place}|{junk}|{junk} {junk}|{junk} {noun} {junk}|What is {junk}?|{junk}?|print({noun})|
def {verb}(x): return x|SELECT * FROM {noun}|<{noun}>|{noun}.{verb}()|https://{noun}.com|{noun}@{noun}.org|???|...|!|?
""".replace("\n", "").split("|")

_CHINESE_NOUNS = """
狗 猫 鸟 马 牛 羊 鱼 大象 狮子 老虎 熊 猴子 兔子 老鼠 蛇 鸭子 鸡 汽车 公交车 火车 飞机 船
自行车 房子 桥 学校 医院 商店 街道 河 湖 海洋 山 森林 树 花 草 花园 公园 海滩 天空 云 太阳 月亮
星球 雨 雪 风 火 水 石头 书 报纸 信 笔 桌子 椅子 床 灯 门 窗户 厨房 电脑 手机 键盘 相机 手表
电视 包 瓶子 杯子 盘子 刀 面包 奶酪 鸡蛋 肉 汤 米饭 面条 苹果 香蕉 土豆 咖啡 茶 牛奶 果汁 啤酒
糖 盐 蛋糕 衣服 帽子 鞋子 雨伞 男人 女人 孩子 人 老师 医生 农民 司机 学生 朋友 家人 妈妈 爸爸 手
脸 眼睛 头发 游戏 足球 音乐 歌 电影 故事 诗 画 照片 语言 价格 钱 银行 地图 旗子 钥匙 机器人 火箭
药 病毒 原子 能量 电 历史 科学 数学 生物 化学 物理 哲学 经济 法律 战争 和平 文化 六边形 五边形
长方形 椭圆 菱形 箭头
""".split()
_CHINESE_ADJECTIVES = """
大 小 老 新 好 坏 高兴 难过 快 慢 热 冷 干净 脏 强 弱 容易 难 长 短 高 低 重 轻 亮 暗 安静
甜 有趣 有名 漂亮 便宜 贵 危险 安全 健康 累
""".split()
_CHINESE_VERBS = """
做 写 读 学习 教 修理 打扫 画 唱 跳舞 跑步 游泳 开车 旅行 睡觉 吃 喝 买 卖 找 解释 翻译 计算
比较 安装 下载 删除 打印 玩 理解
""".split()
_CHINESE_PLACES = """
中国 法国 德国 英国 美国 日本 韩国 印度 俄罗斯 埃及 巴西 加拿大 北京 上海 广州 巴黎 伦敦 东京 纽约
火星 欧洲 非洲
""".split()
_CHINESE_PEOPLE = """
爱因斯坦 牛顿 李白 杜甫 孔子 鲁迅 秦始皇 莎士比亚 达芬奇 贝多芬 小明 小红 图灵 高斯
""".split()
_CHINESE = """
你好|您好|嗨|早上好|晚上好|晚安|谢谢|再见|你好吗？|你是谁？|你叫什么名字？|你会做什么？|你能做什么？|你是机器人吗？|
谁创造了你？|你多大了？|帮帮我|帮助|是|不|好的|对不起|测试|讲个笑话。|讲个故事。|唱首歌。|现在几点了？|今天星期几？|
今天天气怎么样？|介绍一下你自己。|你是什么模型？|你会说{lang}吗？|你喜欢我吗？|这是照片吗？|图中的人是谁？|
这个人在做什么？|图中的女人穿什么？|这是什么季节？|这张照片在哪里拍的？|图中有几个人？|有几个{noun}？|
图中有{noun}吗？|{noun}在哪里？|{noun}是什么颜色？|定位{noun}。|描述{noun}。|{noun}是什么？|这是什么{noun}？|
哪个{noun}最{adj}？|{noun}旁边是什么？|背景是什么颜色？|{noun}有多{adj}？|数一数{noun}。|{noun}后面有什么？|
{place}的首都是哪里？|{place}在哪里？|{place}有多少人口？|介绍一下{place}。|{place}有什么好玩的？|
{person}是谁？|{person}是哪年出生的？|介绍一下{person}。|{person}做过什么？|为什么天空是蓝色的？|
为什么{noun}很{adj}？|{noun}怎么用？|怎么{verb}{noun}？|我想{verb}。|我想{verb}{noun}。|请{verb}{noun}。|
什么时候{verb}最好？|{noun}好吃吗？|写一首关于{noun}的诗。|写一首诗。|写一个关于{noun}的故事。|写一篇作文。|
写一段{code}代码。|用{code}写一个程序。|什么是{code}？|怎么学{code}？|把这句话翻译成{lang}。|
“{noun}”用{lang}怎么说？|{n}加{n}等于几？|{n}+{n}|{n}乘以{n}是多少？|{n}的平方根是多少？|{n}|画一个圆。|
画一个{noun}。|画一颗星星。|三角形有几条边？|什么是正方形？|你最喜欢什么颜色？|红色和蓝色混合是什么颜色？|
圆的面积怎么算？|推荐一本书。|推荐一部电影。|总结这篇文章。|列出五种{noun}。|给我一个{noun}的菜谱。|我很{adj}。|
我的{noun}很{adj}。|我喜欢{noun}。|我爱你。|我叫{person}。|{noun}和{noun}哪个好？|{noun}|{adj}{noun}|{noun}{noun}|
{verb}|{place}|{person}|{noun}{verb}{adj}|{junk}|什么是{junk}？|{junk}是什么？|？|。。。
""".replace("\n", "").split("|")
_CHINESE_LANGUAGES = ["英语", "法语", "德语", "日语", "中文", "俄语", "西班牙语"]


def _junk(rng: random.Random) -> str:
    letters = string.ascii_lowercase + (string.ascii_uppercase + string.digits if rng.random() < 0.4 else "aeiou" * 3)
    if rng.random() < 0.1:
        letters = string.punctuation
    return "".join(rng.choice(letters) for _ in range(rng.randint(2, 9)))


def something_else(language: str, rng: random.Random) -> str:
    """Something that is not a question of pocket's world (`en` or `zh`)."""
    chinese = language == "zh"
    text = rng.choice(_CHINESE if chinese else _ENGLISH)
    fillers = {
        "{noun}": _CHINESE_NOUNS if chinese else _NOUNS,
        "{adj}": _CHINESE_ADJECTIVES if chinese else _ADJECTIVES,
        "{verb}": _CHINESE_VERBS if chinese else _VERBS,
        "{place}": _CHINESE_PLACES if chinese else _PLACES,
        "{person}": _CHINESE_PEOPLE if chinese else _PEOPLE,
        "{lang}": _CHINESE_LANGUAGES if chinese else _LANGUAGES,
        "{code}": _CODE,
    }
    for slot, words in fillers.items():
        while slot in text:
            text = text.replace(slot, rng.choice(words), 1)
    while "{n}" in text:
        text = text.replace("{n}", str(rng.randrange(10 ** rng.randint(1, 4))), 1)
    while "{junk}" in text:
        text = text.replace("{junk}", _junk(rng), 1)
    if not chinese and rng.random() < 0.05:
        text = text.upper()
    return text
